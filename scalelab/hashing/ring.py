"""Consistent-hash ring: a server comes or goes, and only its own share of the keys moves.

Theory of operation
    Every member owns points on a circle of 2**64 places, `virtual_nodes` for each unit of weight.
    A key belongs to the first point at or after its own place. One point a member would leave
    arcs of very unequal length; v points bring a member's share to within about 1/sqrt(v) of its
    due. All points lie in one flat sorted list, and a lookup is one hash and one bisection.
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
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import xxhash

from scalelab.errors import InvalidInput, Unavailable
from scalelab.hashing.member import Member, ordered, without

DEFAULT_BALANCE = 1.25
"""A quarter above the due share: keys that move on are few, and no member is much above it."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A snapshot. Make one with `Ring.of`. points: places, rising; owners: whose, same length."""

    members: tuple[Member, ...]
    virtual_nodes: int
    points: tuple[int, ...]
    owner_names: tuple[str, ...]

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

        Cost: one hash and O(log P).
        """
        if not self.points:
            raise Unavailable("the ring has no members")
        return self.owner_names[self._start(key)]

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
        place = bisect_left(self.points, xxhash.xxh3_64_intdigest(key.encode()))
        return place if place < len(self.points) else 0


def _points(member: Member, virtual_nodes: int) -> list[tuple[int, str]]:
    """At least one point, so that a member of little weight is not left without any key."""
    count = max(1, round(virtual_nodes * member.weight))
    return [
        (xxhash.xxh3_64_intdigest(f"{member.name}#{number}".encode()), member.name)
        for number in range(count)
    ]


def _ring(members: tuple[Member, ...], virtual_nodes: int, placed: list[tuple[int, str]]) -> Ring:
    placed.sort()  # by place, then name: a shared place has the same owner on every machine
    return Ring(
        members,
        virtual_nodes,
        tuple(place for place, _ in placed),
        tuple(name for _, name in placed),
    )
