"""How many messages and syncs does a committed write cost, alone, in a batch, and in a stream?

The core is led by hand: every leg of the network is counted, and every write to a disk that must be
synced before the core may go on. Nothing is random, so a formula must hold to the last message.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.experiments.hand_led import HandLed
from month5_kvstore.raft import Raft, Ready, Settings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role

GROUPS = (1, 3, 5, 7)
BATCHES = (1, 4, 16, 64)
_WARM_LEGS = 8


@dataclass(frozen=True, slots=True)
class CommitCost:
    """Of `writes` that were proposed together, until their leader may answer. legs: one after the
    other. news: messages until all followers know, too, if nothing else is written."""

    writes: int
    messages: int
    syncs: int
    legs: int
    news: int


@dataclass(frozen=True, slots=True)
class StreamCost:
    """Of a leader that is given as many writes before every leg, once it runs evenly."""

    writes: int
    messages: int
    syncs: int


def measure(lab: Lab) -> Result:
    """Every size of group, every size of batch."""
    legs = 50 if lab.quick else 1_000
    alone = {(n, b): commit_cost(n, b) for n in GROUPS for b in BATCHES}
    lab.note(f"{len(alone)} batches")
    streams = {(n, b): stream_cost(n, b, legs) for n in GROUPS for b in BATCHES}
    lab.note(f"{len(streams)} streams of {legs} legs")
    return judged(alone, streams)


class _Counted:
    """A group with a leader, and the syncs of all its nodes."""

    def __init__(self, nodes: int) -> None:
        self.group = HandLed(nodes, Settings())
        self.leader: Raft = self.group.rafts[self.group.elected()]
        self.group.done = self._done
        self.syncs = 0

    def propose(self, writes: int) -> None:
        for number in range(writes):
            self.leader.propose(b"write %d" % number)

    def _done(self, _node: int, ready: Ready) -> None:
        self.syncs += ready.must_sync


def commit_cost(nodes: int, writes: int) -> CommitCost:
    """Writes that arrive together at a leader that has nothing else to do."""
    counted = _Counted(nodes)
    leader = counted.leader
    wanted = leader.committed + writes
    counted.propose(writes)
    cost = counted.group.until(lambda: leader.committed == wanted)
    syncs = counted.syncs
    return CommitCost(writes, cost.messages, syncs, cost.legs, counted.group.settle())


def stream_cost(nodes: int, writes: int, legs: int) -> StreamCost:
    """`writes` before each leg; counted over `legs` of them, after some that fill the pipe."""
    counted = _Counted(nodes)
    for _ in range(_WARM_LEGS):
        counted.propose(writes)
        counted.group.leg()
    committed, syncs, messages = counted.leader.committed, counted.syncs, 0
    for _ in range(legs):
        counted.propose(writes)
        messages += counted.group.leg()
    return StreamCost(counted.leader.committed - committed, messages, counted.syncs - syncs)


def judged(
    alone: dict[tuple[int, int], CommitCost], streams: dict[tuple[int, int], StreamCost]
) -> Result:
    """The arms, and what is claimed of them."""
    arms: list[Arm] = []
    for nodes in GROUPS:
        role: Role = "control" if nodes == 1 else "treatment"
        of = {writes: alone[nodes, writes] for writes in BATCHES}
        messages = {f"messages_a_write_{b}": round(c.messages / b, 3) for b, c in of.items()}
        syncs = {f"syncs_a_write_{b}": round(c.syncs / b, 3) for b, c in of.items()}
        arms.append(
            Arm(
                _name(nodes),
                role,
                {**messages, **syncs, "legs": of[1].legs, "news": of[1].news},
                tuple((float(b), c.messages / b) for b, c in of.items()) if nodes > 1 else (),
            )
        )
        stream = {b: streams[nodes, b] for b in BATCHES}
        arms.append(
            Arm(
                f"{_name(nodes)}, stream",
                role,
                {
                    f"messages_a_write_{b}": round(c.messages / c.writes, 3)
                    for b, c in stream.items()
                },
            )
        )
        if nodes > 1:
            line = tuple((float(b), 2 * (nodes - 1) / b) for b in BATCHES)
            arms.append(Arm(f"2 (n - 1) / batch, n = {nodes}", "theory", {}, line))
    return Result(
        arms=tuple(arms),
        shape=(*_batch_claims(alone), *_stream_claims(streams)),
        plot=Plot(Axis("writes proposed together", log=True), Axis("messages a write", log=True)),
        notes=(
            "Messages and syncs of all nodes, until the leader may answer; heartbeats left out.",
            "news: what tells the followers that it is committed, if no further write does.",
            "A stream's messages carry the news of the writes before, so it is free there.",
        ),
    )


def _name(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def _batch_claims(alone: dict[tuple[int, int], CommitCost]) -> tuple[Claim, ...]:
    several = {nodes: alone[nodes, 1] for nodes in GROUPS if nodes > 1}
    return (
        Claim(
            "A batch costs 2 (n - 1) messages and n syncs, however many writes are in it.",
            all(
                (cost.messages, cost.syncs) == (2 * (nodes - 1), nodes)
                for (nodes, _), cost in alone.items()
            ),
            ", ".join(
                f"n = {n}: {alone[n, 1].messages} and {alone[n, 1].syncs} for 1, "
                f"{alone[n, 64].messages} and {alone[n, 64].syncs} for 64"
                for n in GROUPS
            ),
        ),
        Claim(
            "It is answered after two legs, in a group of three as in one of seven.",
            all(cost.legs == 2 for cost in several.values()),
            ", ".join(f"n = {nodes}: {cost.legs} legs" for nodes, cost in several.items()),
        ),
        Claim(
            "If nothing follows it, telling the followers costs as many messages again.",
            all(cost.news == cost.messages for cost in alone.values()),
            ", ".join(f"n = {nodes}: {cost.news}" for nodes, cost in several.items()),
        ),
    )


def _stream_claims(streams: dict[tuple[int, int], StreamCost]) -> tuple[Claim, ...]:
    exact = {
        (nodes, batch): (cost.messages * batch, cost.syncs * batch)
        == (2 * (nodes - 1) * cost.writes, nodes * cost.writes)
        for (nodes, batch), cost in streams.items()
    }
    return (
        Claim(
            "In a stream the news rides along: 2 (n - 1) messages and n syncs a batch, no more.",
            all(exact.values()),
            ", ".join(
                f"n = {n}: {streams[n, 64].messages / streams[n, 64].writes:.4f} messages and "
                f"{streams[n, 64].syncs / streams[n, 64].writes:.4f} syncs a write in 64s"
                for n in GROUPS
            ),
        ),
    )


EXPERIMENT = Experiment(
    slug="raft-commit-cost",
    question="How many messages and syncs does a committed write cost, alone and in company?",
    varied="nodes; writes proposed together; whether more follow",
    fixed="a perfect network, an elected leader, small values, no heartbeats",
    run=measure,
    topics=("P5.2",),
)
