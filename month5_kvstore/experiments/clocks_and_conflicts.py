"""Three nodes write the same registers and exchange them later: which writes does each clock lose?

Every node has a wall clock that is off by a constant. A node writes what it sees, plus one write of
its own; now and then two nodes exchange a register and keep, by the rule of their clock, the later
write, or both. Two kinds of loss are counted against the truth, which is who had seen what:

    overturned   a write thrown away in favour of one that it had itself replaced
    silent       a write thrown away in favour of one that never saw it

The same days are played for every clock. Virtual time; no sleep, no wall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from month5_kvstore.clocks import Stamp, Vector, hybrid, lamport, merged, precedes, ticked
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

NODES = (1, 2, 3)
SKEWS_MS = (0, 10, 100, 1_000)
STEP_MS = 20
"""Between two events of a register."""

STEPS = 60


@dataclass(frozen=True, slots=True)
class Write:
    """One write. seen: the truth, the numbers of all writes it stands on, its own among them.
    stamp, vector: what the clocks made of it."""

    seen: frozenset[int]
    stamp: Stamp
    vector: Vector


@dataclass(slots=True)
class Losses:
    """Counted over all registers. siblings: writes kept side by side for somebody to merge.
    ahead_ms: how far a stamp was above the highest wall clock, at the most."""

    writes: int = 0
    overturned: int = 0
    silent: int = 0
    siblings: int = 0
    ahead_ms: int = 0


Clock = Callable[[int, int, Stamp | None], Stamp]
"""(node, its wall clock in ms, the highest stamp that it has seen) to the stamp of a write."""

CLOCKS: Mapping[str, Clock] = {
    "wall": lambda node, now_ms, seen: Stamp(now_ms, 0, node),
    "lamport": lambda node, now_ms, seen: lamport(node, seen),
    "hybrid": hybrid,
}
VECTOR = "vector"


def measure(lab: Lab) -> Result:
    """Play the same days with every clock and every skew."""
    registers = 100 if lab.quick else 1_000
    lab.note(f"{registers} registers, {STEPS} events each, {len(SKEWS_MS)} skews")
    lost = {
        clock: {skew: play(clock, skew, registers, lab.seed) for skew in SKEWS_MS}
        for clock in (*CLOCKS, VECTOR)
    }
    return Result(
        arms=tuple(_arm(clock, of) for clock, of in lost.items()),
        shape=_claims(lost),
        plot=Plot(Axis("skew of the wall clocks (ms)"), Axis("writes overturned (per thousand)")),
        notes=(
            f"{STEP_MS} ms between two events of a register; a skew is the widest difference.",
            "overturned: lost to a write that it had itself replaced. silent: to one unseen by it.",
        ),
    )


def play(clock: str, skew_ms: int, registers: int, seed: int) -> Losses:
    """All registers under one clock; the days depend on seed and register alone."""
    losses = Losses()
    for register in range(registers):
        _play_one(clock, skew_ms, Random(f"{seed} {register}"), losses)
    return losses


def _play_one(clock: str, skew_ms: int, random: Random, losses: Losses) -> None:
    wall = {1: 0, 2: skew_ms // 2, 3: skew_ms}
    held: dict[int, tuple[Write, ...]] = {node: () for node in NODES}
    for step in range(1, STEPS + 1):
        node, other = random.sample(NODES, 2)
        now_ms = step * STEP_MS + 10_000
        if random.random() < 0.5:
            held[node] = (_write(clock, node, now_ms + wall[node], held[node], losses),)
            ahead_ms = held[node][0].stamp.time - now_ms - skew_ms
            losses.ahead_ms = max(losses.ahead_ms, ahead_ms if clock != "lamport" else 0)
        else:
            held[node] = held[other] = _meet(clock, held[node], held[other], losses)
            losses.siblings += max(0, len(held[node]) - 1)


def _write(clock: str, node: int, now_ms: int, held: tuple[Write, ...], losses: Losses) -> Write:
    """On top of all that the node holds."""
    losses.writes += 1
    vector: Vector = {}
    for write in held:
        vector = merged(vector, write.vector)
    seen = frozenset({losses.writes}).union(*(write.seen for write in held))
    highest = max((write.stamp for write in held), default=None)
    make = CLOCKS.get(clock, hybrid)
    return Write(seen, make(node, now_ms, highest), ticked(vector, node))


def _meet(
    clock: str, one: tuple[Write, ...], other: tuple[Write, ...], losses: Losses
) -> tuple[Write, ...]:
    """What both hold after they have exchanged what they held."""
    writes = tuple({write.stamp: write for write in (*one, *other)}.values())
    if clock == VECTOR:
        kept_all = tuple(w for w in writes if not any(precedes(w.vector, v.vector) for v in writes))
        gone = [write for write in writes if write not in kept_all]
        losses.silent += sum(1 for w in gone if not any(w.seen < kept.seen for kept in kept_all))
        return kept_all
    if len(writes) < 2:
        return writes
    kept = max(writes, key=lambda write: write.stamp)
    for write in writes:
        if write is not kept and kept.seen < write.seen:
            losses.overturned += 1
        elif write is not kept and not write.seen < kept.seen:
            losses.silent += 1
    return (kept,)


def _arm(clock: str, lost: dict[int, Losses]) -> Arm:
    figures = {f"overturned_{skew}_ms": of.overturned for skew, of in lost.items()}
    widest = lost[SKEWS_MS[-1]]
    return Arm(
        clock,
        "control" if clock == "wall" else "treatment",
        {
            "writes": widest.writes,
            **figures,
            f"silent_{SKEWS_MS[-1]}_ms": widest.silent,
            "siblings": widest.siblings,
        },
        tuple((float(skew), 1000 * of.overturned / of.writes) for skew, of in lost.items()),
    )


def _claims(lost: dict[str, dict[int, Losses]]) -> tuple[Claim, ...]:
    wall = {skew: of.overturned for skew, of in lost["wall"].items()}
    logical = {clock: lost[clock] for clock in ("lamport", "hybrid")}
    vector = lost[VECTOR].values()
    shown = ", ".join(f"{skew} ms: {count}" for skew, count in wall.items())
    return (
        Claim(
            "Last write by wall clock: no write is overturned while clocks differ by less than "
            "the time between two writes, and the more the wider the skew beyond that.",
            wall[0] == wall[10] == 0 < wall[100] < wall[1_000],
            shown,
        ),
        Claim(
            "Lamport's clock and the hybrid one overturn none, whatever the walls say.",
            all(of.overturned == 0 for by_skew in logical.values() for of in by_skew.values()),
            ", ".join(f"{clock}: 0 of {of[0].writes} writes" for clock, of in logical.items()),
        ),
        Claim(
            "They lose writes that never met all the same, without a word.",
            all(of.silent > 0 for by_skew in logical.values() for of in by_skew.values()),
            ", ".join(f"{clock}: {of[1_000].silent}" for clock, of in logical.items()),
        ),
        Claim(
            "Vectors lose none of either kind; somebody has to merge the siblings they keep.",
            all(of.overturned == of.silent == 0 < of.siblings for of in vector),
            f"{lost[VECTOR][1_000].siblings} siblings seen",
        ),
        Claim(
            "A hybrid stamp is never above the highest wall clock.",
            all(of.ahead_ms == 0 for of in lost["hybrid"].values()),
            f"{max(of.ahead_ms for of in lost['hybrid'].values())} ms above it at the most",
        ),
    )


EXPERIMENT = Experiment(
    slug="clocks-and-conflicts",
    question="Which writes does each clock lose: the wall, Lamport's, a hybrid one, vectors?",
    varied="the clock; how far the wall clocks differ",
    fixed="three nodes, the same writes and exchanges in the same order, no message lost",
    run=measure,
    topics=("P5.2",),
)
