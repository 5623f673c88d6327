"""Rendezvous hashing (highest random weight): every key ranks all members, and the first has it.

Theory of operation
    Key and member together give a number u, uniform in 0..1; the member's score is
    weight / -ln(u), and the highest score wins. -ln(u) / weight is an exponential variable of
    that rate, and the smallest of several is member i's with probability weight_i / sum: shares
    follow weights exactly, without points on a circle. The price is a hash per member and key.

Invariants (tests cite them)
    I1  The same members give the same ranking, in any order, in every process.
    I2  Adding a member, or raising its weight, moves keys to it only; removing one moves its own
        keys only, each to the next of its own ranking.

Choose it over ring.py below some dozens of members, or where shares must be exact.
Sources: Thaler and Ravishankar 1998, "Using name-based mappings to increase hit rates";
Schindelhauer and Schomaker 2005, "Weighted distributed hash tables" (the logarithmic method).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

from scalelab.errors import Unavailable
from scalelab.hashing.member import Member, ordered, without


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """A snapshot of members; make one with `Rendezvous.of`. seeds: each member's own hash seed."""

    members: tuple[Member, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, members: Iterable[Member]) -> Rendezvous:
        """Of these members; may be empty. Raises Conflict code `duplicate_member`."""
        known = ordered(members)
        return cls(known, tuple(xxhash.xxh3_64_intdigest(m.name.encode()) for m in known))

    def add(self, member: Member) -> Rendezvous:
        """With one more (I2). Raises Conflict code `duplicate_member`."""
        return Rendezvous.of((*self.members, member))

    def remove(self, name: str) -> Rendezvous:
        """With one less (I2). Raises NotFound."""
        return Rendezvous.of(without(self.members, name))

    def owner(self, key: str) -> str:
        """The member with the highest score. Raises Unavailable if there is none.

        Cost: O(members), one hash each.
        """
        if not self.members:
            raise Unavailable("there are no members to choose from")
        return max(self._scores(key))[1]

    def owners(self, key: str, count: int) -> list[str]:
        """Up to `count` members by falling score; the first is the owner."""
        return [name for _, name in heapq.nlargest(count, self._scores(key))]

    def _scores(self, key: str) -> list[tuple[float, str]]:
        data = key.encode()
        return [
            (member.weight / -math.log(_unit(xxhash.xxh3_64_intdigest(data, seed))), member.name)
            for member, seed in zip(self.members, self.seeds, strict=True)
        ]


def _unit(digest: int) -> float:
    """Uniform in the open interval 0..1. 52 bits: with 53 the largest would round to 1."""
    return ((digest >> 12) + 0.5) / 2**52
