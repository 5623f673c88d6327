"""A node joins or leaves: how many keys move, to whom, and how evenly do they lie?

The same keys are placed on 1 … 16 nodes in several ways, and counted after each join and each
leave. A key moves if another node has it afterwards; it moves for nothing if neither node is the
one that came or went. The store's own way is the last one: keys to sixteen groups by slot, for
ever, and each group's three replicas to nodes by the ring; there whole groups move, never keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import xxhash

from month5_kvstore.node import GROUPS, group_of
from scalelab.hashing import Member, Rendezvous, Ring, jump_for_key
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role

NODES_MAX = 16
SHOWN = (4, 8, 15)
"""Nodes before one joins."""

POINTS = 128
REPLICAS = 3

Owner = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Way:
    """From a number of nodes to the owner of each key. Nodes are named by their numbers; the last
    one joins, the last one leaves, but for `leaves`, where any may."""

    name: str
    role: Role
    owner_of: Callable[[Sequence[str]], Owner]


@dataclass(frozen=True, slots=True)
class Move:
    """Between two placements. moved: keys with another owner; for_nothing: of those, between two
    nodes that were there before and are there after. fullest: keys of the fullest node afterwards,
    against the average."""

    nodes: int
    keys: int
    moved: int
    for_nothing: int
    fullest: float

    @property
    def share(self) -> float:
        """Of all keys."""
        return self.moved / self.keys


def _modulo(nodes: Sequence[str]) -> Owner:
    return lambda key: nodes[xxhash.xxh3_64_intdigest(key.encode()) % len(nodes)]


def _ring(points: int) -> Callable[[Sequence[str]], Owner]:
    return lambda nodes: Ring.of(map(Member, nodes), virtual_nodes=points).owner


def _jump(nodes: Sequence[str]) -> Owner:
    return lambda key: nodes[jump_for_key(key, len(nodes))]


def _grouped(nodes: Sequence[str]) -> Owner:
    """Who has the first replica of the key's group."""
    ring = Ring.of(map(Member, nodes), virtual_nodes=POINTS)
    owners = [ring.owner(_group_name(group)) for group in range(GROUPS)]
    return lambda key: owners[group_of(key.encode())]


def _group_name(group: int) -> str:
    return f"group-{group}"


MODULO = Way("hash modulo nodes", "control", _modulo)
ONE_POINT = Way("ring, one point a node", "treatment", _ring(1))
MANY_POINTS = Way(f"ring, {POINTS} points a node", "treatment", _ring(POINTS))
RENDEZVOUS = Way("rendezvous", "treatment", lambda nodes: Rendezvous.of(map(Member, nodes)).owner)
JUMP = Way("jump", "treatment", _jump)
GROUPED = Way("sixteen groups on the ring", "treatment", _grouped)
WAYS = (MODULO, ONE_POINT, MANY_POINTS, RENDEZVOUS, JUMP, GROUPED)


@dataclass(frozen=True, slots=True)
class Replicas:
    """Of all groups, between two numbers of nodes. moved: replicas on another node; for_nothing:
    replicas that came to a node which had been there all along."""

    nodes: int
    moved: int
    for_nothing: int


def measure(lab: Lab) -> Result:
    """Let nodes join one after the other, in every way."""
    keys = [f"key-{lab.seed}-{number}" for number in range(4_000 if lab.quick else 200_000)]
    moves: dict[str, list[Move]] = {}
    for way in WAYS:
        moves[way.name] = joins(way, keys)
        lab.note(f"{way.name}: {sum(move.moved for move in moves[way.name])} keys moved in all")
    gone = {way.name: leave(way, keys) for way in WAYS}
    return judged(moves, gone, replicas())


def joins(way: Way, keys: Sequence[str]) -> list[Move]:
    """From one node to NODES_MAX, one at a time."""
    placed = [_placed(way, _names(nodes), keys) for nodes in range(1, NODES_MAX + 1)]
    return [
        _compared(before, after, nodes, {_name(nodes + 1)})
        for nodes, (before, after) in enumerate(pairwise(placed), start=1)
    ]


def leave(way: Way, keys: Sequence[str], *, nodes: int = 9) -> Move:
    """The last of so many goes; what it had must move, and nothing else need."""
    before, after = (_placed(way, _names(count), keys) for count in (nodes, nodes - 1))
    return _compared(before, after, nodes, {_name(nodes)})


def _names(nodes: int) -> list[str]:
    return [_name(number) for number in range(1, nodes + 1)]


def _name(number: int) -> str:
    return f"node-{number:02}"


def _placed(way: Way, nodes: Sequence[str], keys: Sequence[str]) -> list[str]:
    return list(map(way.owner_of(nodes), keys))


def _compared(before: Sequence[str], after: Sequence[str], nodes: int, changed: set[str]) -> Move:
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    for_nothing = sum(not changed & {old, new} for old, new in moved)
    loads = Counter(after)
    there = nodes + 1 if any(name in loads for name in changed) else nodes - 1
    return Move(
        nodes, len(after), len(moved), for_nothing, max(loads.values()) * there / len(after)
    )


def replicas() -> list[Replicas]:
    """Of the store's groups, from three nodes on."""
    found: list[Replicas] = []
    for nodes in range(REPLICAS, NODES_MAX):
        before, after = (_owners(count) for count in (nodes, nodes + 1))
        came = [new - old for old, new in zip(before, after, strict=True)]
        joined = _name(nodes + 1)
        found.append(
            Replicas(nodes, sum(map(len, came)), sum(len(names - {joined}) for names in came))
        )
    return found


def _owners(nodes: int) -> list[set[str]]:
    ring = Ring.of(map(Member, _names(nodes)), virtual_nodes=POINTS)
    return [set(ring.owners(_group_name(group), REPLICAS)) for group in range(GROUPS)]


def judged(
    moves: Mapping[str, Sequence[Move]], gone: Mapping[str, Move], groups: Sequence[Replicas]
) -> Result:
    """The arms, and what is claimed of them."""
    arms = [
        Arm(
            way.name,
            way.role,
            {
                **{f"moved_from_{of.nodes}": round(of.share, 3) for of in _shown(moves[way.name])},
                "for_nothing": sum(of.for_nothing for of in moves[way.name]),
                "moved_by_leave_of_9": round(gone[way.name].share, 3),
                "fullest_of_16": round(moves[way.name][-1].fullest, 2),
            },
            tuple((float(of.nodes), of.share) for of in moves[way.name]),
        )
        for way in WAYS
    ]
    nodes = range(1, NODES_MAX)
    arms += [
        Arm("1 / (n + 1)", "theory", {}, tuple((float(n), 1 / (n + 1)) for n in nodes)),
        Arm("n / (n + 1)", "theory", {}, tuple((float(n), n / (n + 1)) for n in nodes)),
        Arm(
            "replicas of sixteen groups",
            "treatment",
            {
                **{f"moved_from_{of.nodes}": of.moved for of in groups if of.nodes in SHOWN},
                "for_nothing": sum(of.for_nothing for of in groups),
            },
        ),
    ]
    return Result(
        arms=tuple(arms),
        shape=(*_move_claims(moves, gone), *_spread_claims(moves), *_group_claims(moves, groups)),
        plot=Plot(Axis("nodes before one joins"), Axis("keys that move (share)")),
        notes=(
            f"{len(moves)} ways, from 1 to {NODES_MAX} nodes; then the last of 9 leaves.",
            "for nothing: from one node that stays to another one that stays.",
            "fullest: keys of the fullest of 16 nodes, against the average.",
            f"Replicas: {GROUPS} groups of {REPLICAS}; figures count replicas, not shares.",
        ),
    )


def _shown(moves: Sequence[Move]) -> list[Move]:
    return [move for move in moves if move.nodes in SHOWN]


def _deviation(share: float, keys: int) -> float:
    """Of a share of so many keys, each moved or not by itself."""
    return sqrt(share * (1 - share) / keys)


def _move_claims(
    moves: Mapping[str, Sequence[Move]], gone: Mapping[str, Move]
) -> tuple[Claim, ...]:
    modulo = moves[MODULO.name]
    others = [way.name for way in WAYS if way is not MODULO]
    even = (RENDEZVOUS.name, JUMP.name)
    points = moves[MANY_POINTS.name]
    return (
        Claim(
            "Modulo moves n of n + 1 keys when a node joins n, within four standard deviations.",
            all(
                abs(of.share - of.nodes / (of.nodes + 1))
                <= 4 * _deviation(of.nodes / (of.nodes + 1), of.keys)
                for of in modulo
            ),
            ", ".join(f"{of.nodes}: {of.share:.3f}" for of in _shown(modulo)),
        ),
        Claim(
            "No other way moves a single key between two nodes that stay.",
            all(of.for_nothing == 0 for name in others for of in (*moves[name], gone[name]))
            and sum(of.for_nothing for of in modulo) > modulo[0].keys,
            f"{sum(of.for_nothing for of in modulo)} by modulo, 0 by the others",
        ),
        Claim(
            "Rendezvous and jump move 1 of n + 1, within four standard deviations.",
            all(
                abs(of.share - 1 / (of.nodes + 1)) <= 4 * _deviation(1 / (of.nodes + 1), of.keys)
                for name in even
                for of in moves[name]
            ),
            ", ".join(f"{of.nodes}: {of.share:.3f}" for of in _shown(moves[JUMP.name])),
        ),
        Claim(
            f"A ring of {POINTS} points does so within four times 1 / sqrt({POINTS}) of it.",
            all(abs(of.share * (of.nodes + 1) - 1) <= 4 / sqrt(POINTS) for of in points),
            ", ".join(f"{of.nodes}: {of.share:.3f}" for of in _shown(points)),
        ),
    )


def _spread_claims(moves: Mapping[str, Sequence[Move]]) -> tuple[Claim, ...]:
    fullest = {name: of[-1].fullest for name, of in moves.items()}
    one, many = fullest[ONE_POINT.name], fullest[MANY_POINTS.name]
    flat = [fullest[way.name] for way in (MODULO, RENDEZVOUS, JUMP)]
    chance = 4 * sqrt(NODES_MAX / moves[MODULO.name][-1].keys)
    return (
        Claim(
            "On one point a node the fullest of 16 has twice the average or more; on many, a "
            "third more at the most.",
            one >= 2 and many <= 4 / 3,
            ", ".join(f"{name}: {value:.2f}" for name, value in fullest.items()),
        ),
        Claim(
            "By modulo, rendezvous and jump it has what chance gives it: at the most four "
            "standard deviations more than the average.",
            max(flat) <= 1 + chance,
            f"{max(flat):.2f}, with {1 + chance:.2f} as the limit",
        ),
    )


def _group_claims(
    moves: Mapping[str, Sequence[Move]], groups: Sequence[Replicas]
) -> tuple[Claim, ...]:
    grouped = moves[GROUPED.name]
    moved, due = (
        sum(of.moved for of in groups),
        sum(GROUPS * REPLICAS / (of.nodes + 1) for of in groups),
    )
    return (
        Claim(
            "Sixteen groups move whole or not at all, and are spread worse for it.",
            grouped[-1].fullest > moves[MANY_POINTS.name][-1].fullest,
            f"fullest of 16: {grouped[-1].fullest:.2f}",
        ),
        Claim(
            "Of their replicas each join takes some to the new node and none elsewhere; in all "
            "about 1 of n + 1, within a third.",
            all(of.for_nothing == 0 for of in groups) and abs(moved / due - 1) <= 1 / 3,
            f"{moved} replicas moved in {len(groups)} joins, {due:.0f} are due",
        ),
    )


EXPERIMENT = Experiment(
    slug="consistent-hashing",
    question="A node joins or leaves: how many keys move, and how evenly do they lie?",
    varied="how keys are placed on nodes; how many nodes there are",
    fixed="the same keys and the same names of nodes for every way",
    run=measure,
    topics=("D6",),
)
