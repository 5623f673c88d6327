"""A leader is cut off and does not know it. What does a read of it answer, and what did it cost?

First the core, led by hand, by the hundred: the leader of five is cut off at a random tick, is read
all along, and each answer is compared with what had been acknowledged before the question; and a
checker that knows no Raft judges the histories. Then the same on three real processes whose links
are cut: the deposed leader's own copy is what a node answers to `consistency=eventual`.

What a read costs is counted too, in messages, where nobody disturbs.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from month5_kvstore.experiments.judging import judge
from month5_kvstore.experiments.parted import NODES, PartedNodes, parted_nodes, until
from month5_kvstore.experiments.read_trials import (
    ELECTION_TICKS,
    FROZEN_TICKS,
    HEARTBEAT_TICKS,
    Trouble,
    Way,
    messages_a_read,
    read_on,
)
from month5_kvstore.node import group_of
from month5_kvstore.raft import Settings
from month5_kvstore.simulation import Call
from scalelab.errors import Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.runtime import Runtime

GROUPS = (3, 5, 7)
TOGETHER = (1, 4, 16, 64)
KEY = "throne"

_PLAIN = Settings(
    election_ticks=ELECTION_TICKS, heartbeat_ticks=HEARTBEAT_TICKS, check_quorum=False
)
_CHECKED = Settings(election_ticks=ELECTION_TICKS, heartbeat_ticks=HEARTBEAT_TICKS)
_LEASE = Settings(election_ticks=ELECTION_TICKS, heartbeat_ticks=HEARTBEAT_TICKS, lease_reads=True)


@dataclass(frozen=True, slots=True)
class Manner:
    """A way to read under some trouble. role: of its arm."""

    name: str
    role: Role
    way: Way
    settings: Settings
    trouble: Trouble = field(default_factory=Trouble)


NAIVE = Manner("leader's own copy", "control", Way.LOCAL, _PLAIN)
CHECKED = Manner("leader's own copy, quorum check", "control", Way.LOCAL, _CHECKED)
LEASE = Manner("lease", "treatment", Way.ROUND, _LEASE)
LEASE_SLOW = Manner("lease, slow clock", "treatment", Way.ROUND, _LEASE, Trouble(slow=2))
LEASE_FROZEN = Manner("lease, frozen", "treatment", Way.ROUND, _LEASE, Trouble(frozen=True))
INDEX = Manner("read index", "treatment", Way.ROUND, _CHECKED)
INDEX_SLOW = Manner("read index, slow clock", "treatment", Way.ROUND, _CHECKED, Trouble(slow=2))
INDEX_FROZEN = Manner("read index, frozen", "treatment", Way.ROUND, _CHECKED, Trouble(frozen=True))
FOLLOWER = Manner("a follower's copy", "treatment", Way.FOLLOWER, _CHECKED)

MANNERS = (
    NAIVE,
    CHECKED,
    LEASE,
    LEASE_SLOW,
    LEASE_FROZEN,
    INDEX,
    INDEX_SLOW,
    INDEX_FROZEN,
    FOLLOWER,
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Of all trials of a manner. stale_trials: with at least one stale answer. refuted: whose
    history no order explains, says the checker."""

    trials: int
    asked: int
    answered: int
    stale: int
    stale_trials: int
    refuted: int
    behind_ticks: int


@dataclass(frozen=True, slots=True)
class Deposed:
    """On real processes: so many reads of each kind after a write that the deposed leader missed.
    copy_stale: of its own copy. refused: linearizable ones there. fresh: linearizable ones at its
    successor. refuted, kept: what the checker says with the copy's answers, and without them."""

    reads: int
    copy_stale: int
    refused: int
    fresh: int
    refuted: bool
    kept: bool


def measure(lab: Lab) -> Result:
    """Read by hand, then from real nodes."""
    trials = 10 if lab.quick else 300
    counted: dict[str, Counted] = {}
    for manner in MANNERS:
        counted[manner.name] = try_out(manner, trials, lab.seed)
        lab.note(f"{manner.name}: {counted[manner.name].stale} stale")
    costs = {
        (name, nodes, together): messages_a_read(nodes, together, settings)
        for name, settings in (("read index", _CHECKED), ("lease", _LEASE))
        for nodes in GROUPS
        for together in TOGETHER
    }
    with Runtime(lab.folder / "stack", private=True, is_disposable=True) as runtime:
        deposed = asyncio.run(depose(runtime, 50 if lab.quick else 500, lab.seed))
    lab.note(f"three processes: {deposed}")
    return judged(counted, costs, deposed)


def try_out(manner: Manner, trials: int, seed: int) -> Counted:
    """So many groups whose leader gets lost."""
    asked = answered = stale = stale_trials = refuted = behind = 0
    for trial in range(trials):
        reads = read_on(manner.way, manner.settings, manner.trouble, f"{seed} {trial}")
        asked, answered = asked + reads.asked, answered + reads.answered
        stale, behind = stale + reads.stale, max(behind, reads.behind_ticks)
        stale_trials += reads.stale > 0
        refuted += judge(reads.calls) is not None
    return Counted(trials, asked, answered, stale, stale_trials, refuted, behind)


async def depose(runtime: Runtime, reads: int, seed: int) -> Deposed:
    """Cut a leader off, write behind its back, read everywhere."""
    async with parted_nodes(runtime) as nodes:
        status = (await nodes.groups(1))[group_of(KEY.encode())]
        leader = int(status["leader"])
        others = set(NODES) - {leader}
        calls: list[Call] = []
        async with nodes.client(others, seed) as client:

            async def write(value: int) -> None:
                called_at = _now_us()
                await client.put(KEY.encode(), b"%d" % value, deadline_s=30.0)
                calls.append(Call(value, KEY, "put", (value,), called_at, _now_us(), None))

            await write(1)
            await until(nodes.is_settled, "all nodes to hold the first value")
            await nodes.links.cut({leader})
            await write(2)
        successor = min(others)
        copies = await _read_all(nodes, leader, reads, "eventual")
        asked = await _read_all(nodes, leader, reads, "linearizable")
        fresh = await _read_all(nodes, successor, reads, "linearizable")
        await nodes.links.heal()
        await until(nodes.is_settled, "the deposed leader to catch up")
    answers = [call for call in (*asked, *fresh) if call is not None]
    copied = [call for call in copies if call is not None]
    return Deposed(
        reads,
        sum(call.answer == 1 for call in copied),
        sum(call is None for call in asked),
        sum(call is not None and call.answer == 2 for call in fresh),
        judge([*calls, *answers, *copied]) is not None,
        judge([*calls, *answers]) is None,
    )


async def _read_all(
    nodes: PartedNodes, node: int, reads: int, consistency: str
) -> list[Call | None]:
    """So many reads at once; None for one that was refused."""
    deadline_s = "1" if consistency == "linearizable" else "30"
    params = {"consistency": consistency, "deadline_s": deadline_s}

    async def read(number: int) -> Call | None:
        called_at = _now_us()
        try:
            answer = await nodes.http[node].get(f"/v1/kv/{KEY}", params=params)
        except Unavailable:
            return None
        return Call(number, KEY, "get", (), called_at, _now_us(), int(answer.body))

    return list(await asyncio.gather(*(read(number) for number in range(10, 10 + reads))))


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def judged(
    counted: dict[str, Counted],
    costs: dict[tuple[str, int, int], float],
    deposed: Deposed,
) -> Result:
    """The arms, and what is claimed of them."""
    arms = [
        Arm(
            manner.name,
            manner.role,
            {
                "asked": counted[manner.name].asked,
                "answered": counted[manner.name].answered,
                "stale": counted[manner.name].stale,
                "trials_with_stale": counted[manner.name].stale_trials,
                "trials_refuted": counted[manner.name].refuted,
                "behind_ticks_max": counted[manner.name].behind_ticks,
            },
        )
        for manner in MANNERS
    ]
    for nodes in GROUPS:
        line = {together: costs["read index", nodes, together] for together in TOGETHER}
        arms.append(
            Arm(
                f"messages of read index, {nodes} nodes",
                "treatment",
                {f"messages_a_read_{together}": cost for together, cost in line.items()},
                tuple((float(together), cost) for together, cost in line.items()),
            )
        )
        theory = tuple((float(one), 2 * (nodes - 1) / one) for one in TOGETHER)
        arms.append(Arm(f"2 (n - 1) / reads, n = {nodes}", "theory", {}, theory))
    figures = {
        "reads": deposed.reads,
        "stale_of_own_copy": deposed.copy_stale,
        "refused_linearizable": deposed.refused,
        "fresh_at_successor": deposed.fresh,
    }
    arms.append(Arm("three processes, leader cut off", "treatment", figures))
    return Result(
        arms=tuple(arms),
        shape=(*_trial_claims(counted), *_cost_claims(costs), *_process_claims(deposed)),
        plot=Plot(Axis("reads asked together", log=True), Axis("messages a read", log=True)),
        notes=(
            f"Shortest time-out {ELECTION_TICKS} ticks, heartbeat {HEARTBEAT_TICKS}, a leg one.",
            "stale: older than a write that was acknowledged before the question.",
            "slow clock: the leader's moves at half the speed. frozen: the leader stands for "
            f"{FROZEN_TICKS} ticks from the cut on, then is asked before it hears anybody.",
            "A lease asks nobody: no messages at all.",
        ),
    )


def _trial_claims(counted: dict[str, Counted]) -> tuple[Claim, ...]:
    naive, checked, lease = (counted[m.name] for m in (NAIVE, CHECKED, LEASE))
    troubled = [counted[manner.name] for manner in (LEASE_SLOW, LEASE_FROZEN)]
    rounds = [counted[manner.name] for manner in (INDEX, INDEX_SLOW, INDEX_FROZEN)]
    follower = counted[FOLLOWER.name]
    return (
        Claim(
            "A deposed leader's own copy is stale in every trial, and the checker sees it in each.",
            naive.stale_trials == naive.refuted == naive.trials,
            f"{naive.stale} of {naive.answered} answers, {naive.refuted} of {naive.trials} trials",
        ),
        Claim(
            "A quorum check shortens that, and does not end it.",
            0 < checked.stale < naive.stale / 2 and checked.refuted > 0,
            f"{checked.stale} stale instead of {naive.stale}",
        ),
        Claim(
            "Read index: no stale answer, whatever the leader and its clock do.",
            all(of.stale == of.refuted == 0 < of.answered for of in rounds),
            ", ".join(f"0 of {of.answered}" for of in rounds if of.stale == 0),
        ),
        Claim(
            "A lease has none either while clocks run alike.",
            lease.stale == lease.refuted == 0 < lease.answered,
            f"{lease.stale} of {lease.answered}",
        ),
        Claim(
            "With a slow clock, or after a pause that its clock did not see, it lies.",
            all(of.stale > 0 and of.refuted > 0 for of in troubled),
            ", ".join(f"{of.stale} of {of.answered}" for of in troubled),
        ),
        Claim(
            "A follower that hears its leader is stale often, and never by more than two legs.",
            follower.stale > 0 and follower.behind_ticks <= 2,
            f"{follower.stale} of {follower.answered}, {follower.behind_ticks} ticks at the most",
        ),
    )


def _cost_claims(costs: dict[tuple[str, int, int], float]) -> tuple[Claim, ...]:
    rounds = {(n, k): cost for (name, n, k), cost in costs.items() if name == "read index"}
    leases = [cost for (name, _, _), cost in costs.items() if name == "lease"]
    return (
        Claim(
            "Read index costs 2 (n - 1) messages for all reads that are asked together.",
            all(cost == 2 * (n - 1) / together for (n, together), cost in rounds.items()),
            ", ".join(f"n = {n}, {k}: {rounds[n, k]:g}" for n in GROUPS for k in (1, 64)),
        ),
        Claim(
            "A lease costs none.",
            all(cost == 0 for cost in leases),
            f"{sum(leases):g} in {len(leases)} groups",
        ),
    )


def _process_claims(deposed: Deposed) -> tuple[Claim, ...]:
    return (
        Claim(
            "On real processes the deposed leader's copy is stale each time, and refuted.",
            deposed.copy_stale == deposed.reads and deposed.refuted,
            f"{deposed.copy_stale} of {deposed.reads}",
        ),
        Claim(
            "Asked for a linearizable read it never answers; its successor does, rightly.",
            deposed.refused == deposed.fresh == deposed.reads and deposed.kept,
            f"{deposed.refused} refused, {deposed.fresh} fresh",
        ),
    )


EXPERIMENT = Experiment(
    slug="linearizable-reads",
    question="A leader is cut off and does not know it: which reads of it are stale?",
    varied="how a read is confirmed; what else is wrong with the leader",
    fixed="five nodes led by hand, then three processes; the same cuts for every way to read",
    run=measure,
    topics=("P5.2",),
)
