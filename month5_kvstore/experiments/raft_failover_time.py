"""A leader dies. How long is nobody leading, counted in election time-outs?

By hand first, in ticks of virtual time: hundreds of leaders of groups of 3, 5 and 7 die at a random
tick, with the settings that the nodes run with. Then groups of five whose time-outs are drawn from
windows of other widths: a narrow one splits votes, a wide one waits. At last three real processes
are killed in turn, and for each group that the dead one led it is noted when the others have a new
leader; that is told, and only what was counted is claimed of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from month5_kvstore.experiments.hand_led import HandLed
from month5_kvstore.experiments.leader_election import Narrow
from month5_kvstore.experiments.parted import NODES, PartedNodes, parted_nodes, until
from month5_kvstore.raft import Role, Settings
from month5_kvstore.stack import node_name
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.runtime import Runtime

GROUPS = (3, 5, 7)
TICKS = 40
HEARTBEAT = 4
LONGEST = 2 * TICKS
WIDTHS = (2, 4, 8, 16, 24, 40)
LEGS = 4
"""A node that stands asks whether it may, and then for votes: two questions and two answers."""

_SETTINGS = Settings(election_ticks=TICKS, heartbeat_ticks=HEARTBEAT)
_GIVEN_UP = 30 * LONGEST
_REAL_LONGEST_S = 2 * 10 * 0.050


@dataclass(frozen=True, slots=True)
class Failovers:
    """Of many deaths, rising; in longest time-outs. split: of those that took a second attempt."""

    took: tuple[float, ...]
    split: int

    def quantile(self, share: float) -> float:
        """0.5: the median."""
        return self.took[min(len(self.took) - 1, int(share * len(self.took)))]


@dataclass(frozen=True, slots=True)
class Kills:
    """Of real processes. led: groups that the dead ones led. took: of each, how long nobody else
    did, rising, in longest time-outs. same_term: of those, with a new leader in no later term."""

    kills: int
    led: int
    took: tuple[float, ...]
    same_term: int


def measure(lab: Lab) -> Result:
    """Kill leaders by hand, then real ones."""
    deaths = 200 if lab.quick else 2_000
    by_nodes = {nodes: fail_over(nodes, TICKS, deaths, lab.seed) for nodes in GROUPS}
    lab.note(f"{deaths} deaths in groups of {GROUPS}")
    by_width = {width: fail_over(5, width, deaths, lab.seed) for width in WIDTHS}
    lab.note(f"{deaths} deaths for each of {len(WIDTHS)} windows")
    with Runtime(lab.folder / "stack", private=True, is_disposable=True) as runtime:
        kills = asyncio.run(kill_in_turn(runtime, 3 if lab.quick else 100, lab.note))
    return judged(by_nodes, by_width, kills)


def fail_over(nodes: int, width: int, deaths: int, seed: int) -> Failovers:
    """So many leaders die, each of a group of its own. width: of the window of time-outs, ticks."""
    took: list[float] = []
    split = 0
    for death in range(deaths):
        ticks, terms = _one_death(nodes, width, f"{seed} {death}")
        took.append(ticks / LONGEST)
        split += terms > 1
    return Failovers(tuple(sorted(took)), split)


def _one_death(nodes: int, width: int, seed: str) -> tuple[int, int]:
    """Ticks until another one leads, and terms until then."""

    def draws(node: int) -> Random:
        random = Narrow(f"{seed} {node}")
        random.width = width
        return random

    group = HandLed(nodes, _SETTINGS, random=draws)
    dead = group.elected()
    term = group.rafts[dead].term
    for _ in range(HEARTBEAT + Random(seed).randrange(HEARTBEAT)):
        group.tick()
    group.cut = {dead}
    others = [raft for node, raft in group.rafts.items() if node != dead]
    for ticks in range(1, _GIVEN_UP):
        group.tick()
        if any(raft.role is Role.LEADER for raft in others):
            return ticks, max(raft.term for raft in others) - term
    return _GIVEN_UP, max(raft.term for raft in others) - term


def foreseen(nodes: int, share: float) -> float:
    """The quantile of a failover without split votes, in longest time-outs: the lowest of all
    followers' draws, less the age of the last heartbeat, and the legs of an election."""
    lowest = TICKS * (1 - (1 - share) ** (1 / (nodes - 1)))
    return (TICKS + lowest - HEARTBEAT / 2 + LEGS) / LONGEST


async def kill_in_turn(runtime: Runtime, kills: int, note: Callable[[str], None]) -> Kills:
    """Kill one node after the other, each when all are well again."""
    took: list[float] = []
    led = same_term = 0
    async with parted_nodes(runtime) as nodes:
        for number in range(kills):
            victim = NODES[number % len(NODES)]
            times, same = await _kill(runtime, nodes, victim)
            took += times
            led, same_term = led + len(times), same_term + same
            note(f"node {victim} killed, {len(times)} groups had lost their leader")
            await asyncio.to_thread(runtime.restart, node_name(victim))
            await until(nodes.is_settled, "three equal nodes")
    return Kills(kills, led, tuple(sorted(took)), same_term)


async def _kill(runtime: Runtime, nodes: PartedNodes, victim: int) -> tuple[Sequence[float], int]:
    """For each group that the victim led, how long it has no leader; and how many got one in the
    same term."""
    before = {
        one["group"]: one["term"] for one in await nodes.groups(victim) if one["leader"] == victim
    }
    others = [node for node in NODES if node != victim]
    began_s = time.monotonic()
    await asyncio.to_thread(runtime.kill, node_name(victim))
    took: dict[int, float] = {}
    same = 0

    async def all_led() -> bool:
        nonlocal same
        for node in others:
            for one in await nodes.groups(node):
                group = one["group"]
                if group in before and group not in took and one["leader"] in others:
                    took[group] = (time.monotonic() - began_s) / _REAL_LONGEST_S
                    same += one["term"] <= before[group]
        return len(took) == len(before)

    await until(all_led, "new leaders")
    return list(took.values()), same


def judged(by_nodes: dict[int, Failovers], by_width: dict[int, Failovers], kills: Kills) -> Result:
    """The arms, and what is claimed of them."""
    arms = [
        Arm(f"{nodes} nodes", "control" if nodes == 3 else "treatment", _figures(of))
        for nodes, of in by_nodes.items()
    ]
    arms += [
        Arm(
            f"foreseen, {nodes} nodes",
            "theory",
            {"p50": round(foreseen(nodes, 0.5), 3), "p95": round(foreseen(nodes, 0.95), 3)},
        )
        for nodes in by_nodes
    ]
    for share, name in ((0.5, "p50"), (0.95, "p95")):
        arms.append(
            Arm(
                f"{name} by window, 5 nodes",
                "treatment",
                {f"window_{width}": round(of.quantile(share), 3) for width, of in by_width.items()},
                tuple((float(width), of.quantile(share)) for width, of in by_width.items()),
            )
        )
    splits = {f"window_{width}": of.split for width, of in by_width.items()}
    arms.append(Arm("elections with split votes", "treatment", splits))
    real = Failovers(kills.took, 0)
    arms.append(
        Arm(
            "three processes, killed in turn",
            "treatment",
            {"kills": kills.kills, "leaders_lost": kills.led, **_quantiles(real)},
        )
    )
    return Result(
        arms=tuple(arms),
        shape=(*_virtual_claims(by_nodes), *_window_claims(by_width), *_real_claims(kills)),
        plot=Plot(
            Axis("width of the window of time-outs (ticks; a leg is one)", log=True),
            Axis("until another one leads (longest time-outs)"),
        ),
        notes=(
            f"Shortest time-out {TICKS} ticks, longest {LONGEST}, a heartbeat every {HEARTBEAT}.",
            "The processes' longest time-out is one second; they share the machine with all else.",
        ),
    )


def _quantiles(of: Failovers) -> dict[str, float]:
    return {
        "p50": round(of.quantile(0.5), 3),
        "p95": round(of.quantile(0.95), 3),
        "max": round(of.took[-1], 3),
    }


def _figures(of: Failovers) -> dict[str, float]:
    return {"deaths": len(of.took), **_quantiles(of), "split": of.split}


def _virtual_claims(by_nodes: dict[int, Failovers]) -> tuple[Claim, ...]:
    medians = {nodes: of.quantile(0.5) for nodes, of in by_nodes.items()}
    shown = ", ".join(f"n = {nodes}: {median:.2f}" for nodes, median in medians.items())
    every = list(by_nodes.values())
    return (
        Claim(
            "Half of all failovers take at most one longest time-out, 95 % two, and none four.",
            all(
                of.quantile(0.5) <= 1 and of.quantile(0.95) <= 2 and of.took[-1] <= 4
                for of in every
            ),
            ", ".join(
                f"{of.quantile(0.5):.2f} {of.quantile(0.95):.2f} {of.took[-1]:.2f}" for of in every
            ),
        ),
        Claim(
            "The median is the lowest of the followers' draws, as foreseen, within a tenth.",
            all(
                abs(median - foreseen(nodes, 0.5)) <= 0.1 * foreseen(nodes, 0.5)
                for nodes, median in medians.items()
            ),
            shown + "; foreseen " + ", ".join(f"{foreseen(nodes, 0.5):.2f}" for nodes in medians),
        ),
        Claim(
            "The more nodes, the sooner somebody stands.",
            medians[3] > medians[5] > medians[7],
            shown,
        ),
    )


def _window_claims(by_width: dict[int, Failovers]) -> tuple[Claim, ...]:
    p95 = {width: of.quantile(0.95) for width, of in by_width.items()}
    best = min(p95, key=lambda width: p95[width])
    narrow, wide = min(by_width), max(by_width)
    return (
        Claim(
            "Narrow windows split votes, wide ones do not.",
            by_width[narrow].split > 10 * by_width[wide].split
            and by_width[narrow].split > len(by_width[narrow].took) / 4,
            ", ".join(f"{width}: {of.split}" for width, of in by_width.items()),
        ),
        Claim(
            "The best window for the slowest twentieth is neither the narrowest nor the widest.",
            best not in (narrow, wide),
            ", ".join(f"{width}: {value:.2f}" for width, value in p95.items()),
        ),
    )


def _real_claims(kills: Kills) -> tuple[Claim, ...]:
    return (
        Claim(
            "Of real processes, every group that lost its leader has another one, in a later term.",
            len(kills.took) == kills.led > 0 == kills.same_term,
            f"{kills.led} groups in {kills.kills} kills",
        ),
    )


EXPERIMENT = Experiment(
    slug="raft-failover-time",
    question="A leader dies: how many election time-outs pass until another one leads?",
    varied="nodes; the width of the window from which time-outs are drawn",
    fixed="shortest time-out of 40 ticks, a heartbeat every 4, a leg takes one",
    run=measure,
    topics=("P5.2",),
)
