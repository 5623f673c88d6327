"""Consistent-hash ring: a server comes or goes, and only its own share of the keys moves.

Theory of operation
    Every member owns points on a circle of 2**64 places, `virtual_nodes` for each unit of weight.
    A key belongs to the first point at or after its own place. One point a member would leave
    arcs of very unequal length; v points bring a member's share to within about 1/sqrt(v) of its
    due. All points lie in one flat sorted list. The circle is cut into at least as many equal
    cells as there are points, and a table says where each cell begins in the list: a lookup is one
    hash, one look into the table, and about one step from there, however many points there are.
    A ring never changes: `add` and `remove` make a new one, so a reader needs no lock.

    With bounded loads a key walks on, clockwise, past members that hold their fill already:
    ceil(balance * due share of all loads, the new one included).

Invariants (tests cite them)
    I1  The same members give the same ring, in any order of adding, in every process.
    I2  Adding a member moves keys to it only; removing one moves its own keys only.
    I3  Bounded: a pick never takes a member above its capacity, and there is always one to take.
    I4  Bounded: without pressure (nobody full) the pick is the key's owner.

Absent on purpose: failure detection and replication; `owners` gives whom to replicate to.
Sources: Karger et al. 1997, "Consistent hashing and random trees"; Mirrokni, Thorup and
Zadimoghaddam 2018, "Consistent hashing with bounded loads"; differs in: weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import xxhash

from scalelab.errors import InvalidInput, Unavailable
from scalelab.hashing.member import Member, ordered, without

_BITS = 64
_TURN = 2**_BITS
_hash = xxhash.xxh3_64_intdigest

DEFAULT_BALANCE = 1.25
"""A quarter above the due share: keys that move on are few, and no member is much above it."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A snapshot. Make one with `Ring.of`. points: places, rising; owners: whose, same length.

    The other fields follow from the points. ends, names: the same with the first point once more,
    a turn of the circle later. starts: where each cell begins in `ends`; shift: from a place to
    its cell.
    """

    members: tuple[Member, ...]
    virtual_nodes: int
    points: tuple[int, ...]
    owner_names: tuple[str, ...]
    ends: tuple[int, ...] = field(compare=False, repr=False)
    names: tuple[str, ...] = field(compare=False, repr=False)
    starts: tuple[int, ...] = field(compare=False, repr=False)
    shift: int = field(compare=False, repr=False)

    @classmethod
    def of(cls, members: Iterable[Member], *, virtual_nodes: int = 128) -> Ring:
        """A ring of these members; may be empty. virtual_nodes: points for a weight of 1, >= 1.

        Raises Conflict code `duplicate_member`. Cost: O(P log P) for P points.
        """
        if virtual_nodes < 1:
            raise InvalidInput(f"virtual_nodes {virtual_nodes} is below 1", field="virtual_nodes")
        known = ordered(members)
        placed = [pair for member in known for pair in _points(member, virtual_nodes)]
        return _ring(known, virtual_nodes, placed)

    def add(self, member: Member) -> Ring:
        """A ring with one more (I2). Raises Conflict. Cost: O(P), two sorted runs are merged."""
        members = ordered((*self.members, member))
        placed = list(zip(self.points, self.owner_names, strict=True))
        placed += sorted(_points(member, self.virtual_nodes))
        return _ring(members, self.virtual_nodes, placed)

    def remove(self, name: str) -> Ring:
        """A ring with one less (I2). Raises NotFound. Cost: O(P)."""
        members = without(self.members, name)
        pairs = zip(self.points, self.owner_names, strict=True)
        return _ring(members, self.virtual_nodes, [pair for pair in pairs if pair[1] != name])

    def owner(self, key: str) -> str:
        """The name of the key's member. Raises Unavailable if the ring is empty.

        Cost: one hash and O(1) steps on average.
        """
        place = _hash(key.encode())
        ends = self.ends
        at = self.starts[place >> self.shift]
        while ends[at] < place:
            at += 1
        try:
            return self.names[at]
        except IndexError:
            raise Unavailable("the ring has no members") from None

    def owners(self, key: str, count: int) -> list[str]:
        """Up to `count` different members clockwise from the key; the first is its owner."""
        walk = self.walk(key)
        return [name for name, _ in zip(walk, range(count), strict=False)]

    def walk(self, key: str) -> Iterator[str]:
        """All members, each once, in the order in which the key would fall to them."""
        seen: set[str] = set()
        count = len(self.points)
        start = self._start(key) if count else 0
        for step in range(count):
            name = self.owner_names[(start + step) % count]
            if name not in seen:
                seen.add(name)
                yield name
                if len(seen) == len(self.members):
                    return

    def bounded_owner(
        self, key: str, loads: Mapping[str, int], *, balance: float = DEFAULT_BALANCE
    ) -> str:
        """The first member from the key's place that may take one more (I3, I4).

        loads: requests or keys held now, of the members that may be picked; members it leaves
        out are passed over, names that are no members are ignored. balance: >= 1; nearer to 1 is
        more even and moves more keys. Raises Unavailable if no member may be picked.
        """
        limits = self.capacities(loads, balance=balance)
        for name in self.walk(key):
            if name in limits and loads[name] < limits[name]:
                return name
        raise Unavailable("no member of the ring may be picked")

    def capacities(
        self, loads: Mapping[str, int], *, balance: float = DEFAULT_BALANCE
    ) -> dict[str, int]:
        """What each member named in `loads` may hold once one more is placed. Cost: O(members)."""
        if not balance >= 1:
            raise InvalidInput(
                f"balance {balance} is below 1: nobody could take all", field="balance"
            )
        able = [member for member in self.members if member.name in loads]
        total = sum(loads[member.name] for member in able) + 1
        weights = math.fsum(member.weight for member in able)
        return {
            member.name: math.ceil(balance * total * (member.weight / weights)) for member in able
        }

    def _start(self, key: str) -> int:
        place = _hash(key.encode())
        at = self.starts[place >> self.shift]
        while self.ends[at] < place:
            at += 1
        return at if at < len(self.points) else 0


def _points(member: Member, virtual_nodes: int) -> list[tuple[int, str]]:
    """At least one point, so that a member of little weight is not left without any key."""
    count = max(1, round(virtual_nodes * member.weight))
    name = member.name
    start = f"{name}#".encode()
    return [(_hash(b"%b%d" % (start, number)), name) for number in range(count)]


def _ring(members: tuple[Member, ...], virtual_nodes: int, placed: list[tuple[int, str]]) -> Ring:
    placed.sort()  # by place, then name: a shared place has the same owner on every machine
    points = tuple(place for place, _ in placed)
    names = tuple(name for _, name in placed)
    bits = max(1, (len(points) - 1).bit_length())
    shift = _BITS - bits
    return Ring(
        members,
        virtual_nodes,
        points,
        names,
        ends=(*points, _TURN + (points[0] if points else 0)),
        names=(*names, *names[:1]),
        starts=_starts(points, bits, shift),
        shift=shift,
    )


def _starts(points: tuple[int, ...], bits: int, shift: int) -> tuple[int, ...]:
    """For each cell, how many points lie before it."""
    within = [0] * (1 << bits)
    for place in points:
        within[place >> shift] += 1
    return tuple(accumulate(within[:-1], initial=0))
