"""The story of one group of five: terms, logs and commits, told step by step and counted.

A leader is elected and commits; it loses a minority and goes on; it loses everybody, and what it
appends then is committed by nobody; the others elect another one in a later term; it comes back,
and its log becomes theirs. Every step is an arm: what each node's log says, and how far it is
committed. The core is led by hand, so every run tells the same story.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.experiments.hand_led import HandLed
from month5_kvstore.raft import Raft, Settings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

NODES = 5
LOST = 3
"""Entries that the leader appends while nobody hears it."""

_SETTINGS = Settings(pre_vote=False, check_quorum=False)


@dataclass(frozen=True, slots=True)
class Step:
    """What stands after a step. logs: of each node, the terms of its entries from the first on.
    commits: how far each knows its log committed. leader: node, of the latest term."""

    name: str
    term: int
    leader: int
    logs: dict[int, tuple[int, ...]]
    commits: dict[int, int]


def measure(lab: Lab) -> Result:
    """Tell the story and check it."""
    steps = tell()
    lab.note(f"{len(steps)} steps of a group of {NODES}")
    return Result(
        arms=tuple(_arm(step, number) for number, step in enumerate(steps)),
        shape=_claims({step.name: step for step in steps}),
        plot=Plot(Axis("node"), Axis("entries in its log")),
        notes=(
            "A log is written as the terms of its entries; `|` stands behind the committed ones.",
            f"Node 1 leads first; cut off, it appends {LOST} entries that nobody else ever sees.",
            "Heartbeats carry the commit index, so followers learn of it a little later.",
        ),
    )


def tell() -> tuple[Step, ...]:
    """The whole story, from an empty group on."""
    group = HandLed(NODES, _SETTINGS)
    steps = [_seen("nobody leads", group)]
    _elect(group, group.rafts[1])
    steps.append(_seen("node 1 is elected", group))
    _propose(group, group.rafts[1], 2)
    steps.append(_seen("two commands", group))
    group.cut = {4, 5}
    _propose(group, group.rafts[1], 2)
    steps.append(_seen("two more, without nodes 4 and 5", group))
    group.cut = {1}
    _propose(group, group.rafts[1], LOST)
    steps.append(_seen(f"{LOST} more, heard by nobody", group))
    _elect(group, group.rafts[5])
    steps.append(_seen("node 5 stands, with a shorter log", group))
    _elect(group, group.rafts[2])
    steps.append(_seen("node 2 is elected", group))
    _propose(group, group.rafts[2], 1)
    steps.append(_seen("one command of the new term", group))
    group.cut = set()
    _beat(group)
    steps.append(_seen("node 1 is back", group))
    return tuple(steps)


def _elect(group: HandLed, candidate: Raft) -> None:
    candidate.campaign()
    group.settle()
    _beat(group)


def _propose(group: HandLed, leader: Raft, commands: int) -> None:
    for number in range(commands):
        leader.propose(b"command %d" % number)
        group.settle()


def _beat(group: HandLed) -> None:
    """Time for two heartbeats of whoever leads; followers hear it well before their time-out."""
    for _ in range(2 * _SETTINGS.heartbeat_ticks):
        for raft in group.rafts.values():
            if raft is group.leader:
                raft.tick()
        group.settle()


def _seen(name: str, group: HandLed) -> Step:
    leader = group.leader
    return Step(
        name,
        max(raft.term for raft in group.rafts.values()),
        _number(group, leader),
        {
            node: tuple(raft.term_at(index) or 0 for index in range(1, raft.last_index + 1))
            for node, raft in group.rafts.items()
        },
        {node: raft.committed for node, raft in group.rafts.items()},
    )


def _number(group: HandLed, leader: Raft | None) -> int:
    return next((node for node, raft in group.rafts.items() if raft is leader), 0)


def _arm(step: Step, number: int) -> Arm:
    logs = {
        f"log_{node}": "".join(map(str, log[: step.commits[node]]))
        + "|"
        + "".join(map(str, log[step.commits[node] :]))
        for node, log in step.logs.items()
    }
    return Arm(
        f"{number}. {step.name}",
        "control" if number < 4 else "treatment",
        {"term": step.term, "leader": step.leader or None, **logs},
        tuple((float(node), float(len(log))) for node, log in step.logs.items()),
    )


def _claims(steps: dict[str, Step]) -> tuple[Claim, ...]:
    minority = steps["two more, without nodes 4 and 5"]
    alone = steps[f"{LOST} more, heard by nobody"]
    refused = steps["node 5 stands, with a shorter log"]
    taken = steps["one command of the new term"]
    end = steps["node 1 is back"]
    kept = alone.commits[1]
    return (
        Claim(
            "Three of five are enough: a leader without two followers commits everything.",
            minority.commits[1] == len(minority.logs[1]) == 5,
            f"{minority.commits[1]} of {len(minority.logs[1])} entries",
        ),
        Claim(
            "A leader whom nobody hears appends, and commits nothing.",
            len(alone.logs[1]) == kept + LOST and kept == minority.commits[1],
            f"{len(alone.logs[1])} entries, {kept} committed",
        ),
        Claim(
            "A node whose log lacks committed entries is not elected; it costs a term.",
            refused.leader == 1 and refused.term == alone.term + 1,
            f"term {alone.term} became {refused.term}, led by nobody",
        ),
        Claim(
            "Two leaders may exist at once, in different terms; only the later one commits.",
            taken.commits[2] > kept == taken.commits[1],
            f"node 1 (term 1) {taken.commits[1]}, node 2 (term {taken.term}) {taken.commits[2]}",
        ),
        Claim(
            f"In the end all logs are equal, {LOST} uncommitted entries are gone, and no other.",
            len(set(end.logs.values())) == 1
            and len(set(end.commits.values())) == 1
            and end.logs[1][:kept] == alone.logs[1][:kept]
            and end.logs[1].count(1) == len(alone.logs[1]) - LOST,
            f"every log is {''.join(map(str, end.logs[1]))}, committed to {end.commits[1]}",
        ),
    )


EXPERIMENT = Experiment(
    slug="raft-explained",
    question="What do terms, logs and commits say while a leader comes, goes and comes back?",
    varied="who is cut off, step by step",
    fixed="one group of five, a perfect network between those who are not cut off",
    run=measure,
    topics=("P5.2", "M5.2"),
)
