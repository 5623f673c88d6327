"""The consistent-hash ring beside uhashring: lookups at 16 and 256 nodes, building, spread.

Both have 160 points a node and are asked for the same keys in this process. What a lookup costs is
CPU of the process; how even the shares are and how many keys a new node moves is counted exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from uhashring import HashRing

from scalelab.hashing import Member, Ring
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import compare, is_void
from scalelab.lab.course.rounds import Measure, cpu_us_per_operation, paired

MONTH = "month1"
_POINTS = 160
_KEYS = [f"user-{number}" for number in range(20_000)]
_GATES = {16: 4.0, 256: 2.5}


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about a minute."""
    figures: list[AnyFigure] = []
    for nodes, gate in _GATES.items():
        ours, peer = _ring(nodes), HashRing(nodes=_names(nodes))
        _check(ours)
        measures = _lookups(ours.owner), _lookups(peer.get_node)
        if nodes == min(_GATES):
            control = _compare(options, "ours, twice", measures[0], measures[0])
            if is_void(control.ratio):
                options.note(f"the control is off: {control.ratio.ratio:.3f}; too busy a machine")
        what = f"lookup, {nodes} nodes"
        figures.append(_compare(options, what, *measures, gate=gate))
        figures += _counts(nodes, ours, peer)
    nodes = max(_GATES)
    building = _building(lambda: _ring(nodes)), _building(lambda: HashRing(nodes=_names(nodes)))
    built = _compare(options, f"build, {nodes} nodes", *building)
    figures.append(
        LimitFigure("ring", built.subject, built.unit, built.ratio.ratio, "at_least", None)
    )
    return figures


def _compare(
    options: Options, what: str, ours: Measure, peer: Measure, *, gate: float = 0.0
) -> Figure:
    options.note(f"in turns: {what}")
    rounds = paired(peer, ours, rounds=options.rounds, round_s=options.in_process_round_s)
    ratio = compare(rounds, options.generator)
    unit = "CPU µs/op, uhashring / ours"
    return Figure("ring", what, "uhashring", unit, ratio, "at_least", gate)


def _lookups(owner: Callable[[str], object]) -> Measure:
    def some(count: int) -> None:
        for key in _KEYS[:count]:
            owner(key)

    return cpu_us_per_operation(some, batch=2000)


def _building(build: Callable[[], object]) -> Measure:
    def some(count: int) -> None:
        for _ in range(count):
            build()

    return cpu_us_per_operation(some, batch=1)


def _counts(nodes: int, ours: Ring, peer: HashRing) -> list[AnyFigure]:
    """Exact for these names: the fullest node against the mean, and keys moved by one more."""
    more, grown = ours.add(Member("new")), HashRing(nodes=[*_names(nodes), "new"])
    spread = {
        "ours": _fullest(nodes, map(ours.owner, _KEYS)),
        "uhashring": _fullest(nodes, map(peer.get_node, _KEYS)),
    }
    moved = {
        "ours": _moved(nodes, ours.owner, more.owner),
        "uhashring": _moved(nodes, peer.get_node, grown.get_node),
    }
    return [
        LimitFigure("ring", f"{what}, {nodes} nodes, {who}", unit, value, "at_most", None)
        for what, unit, found in (
            ("fullest node", "times the mean", spread),
            ("keys moved by one more", "times 1/(n+1)", moved),
        )
        for who, value in found.items()
    ]


def _fullest(nodes: int, owners: Iterable[object]) -> float:
    return round(max(Counter(owners).values()) / (len(_KEYS) / nodes), 3)


def _moved(nodes: int, before: Callable[[str], object], after: Callable[[str], object]) -> float:
    moved = sum(before(key) != after(key) for key in _KEYS)
    return round(moved / len(_KEYS) * (nodes + 1), 3)


def _ring(nodes: int) -> Ring:
    return Ring.of(map(Member, _names(nodes)), virtual_nodes=_POINTS)


def _names(nodes: int) -> list[str]:
    return [f"cache-{number}" for number in range(nodes)]


def _check(ring: Ring) -> None:
    """The quick lookup gives what the walk around the circle gives."""
    for key in _KEYS[:200]:
        if ring.owner(key) != next(ring.walk(key)):
            raise RuntimeError(f"the ring has two owners for {key}")
