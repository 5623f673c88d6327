"""Ring placement: shards stand on a consistent-hash ring; a new one takes only its own share.

It needs no map but the list of members, and pays with uneven shares and with no say in what moves:
slots (hash_placement) can be moved one by one, a ring moves what the hash tells it to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from month2_databases.sharding.placement import text_key
from scalelab.errors import InvalidInput
from scalelab.hashing import Member, Ring


@dataclass(frozen=True, slots=True)
class RingPlacement:
    """Text keys over a ring of shards."""

    ring: Ring
    version: int = 1

    @classmethod
    def of(cls, shards: Iterable[str], *, virtual_nodes: int = 128) -> RingPlacement:
        """Version 1 with equal weights. Raises InvalidInput for none, Conflict for one twice."""
        ring = Ring.of((Member(name) for name in shards), virtual_nodes=virtual_nodes)
        if not ring.members:
            raise InvalidInput("a ring of no shards has no keys", field="shards")
        return cls(ring)

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.ring.members)

    def shard_of(self, key: object) -> str:
        return self.ring.owner(text_key(key))

    def with_shard(self, name: str, *, weight: float = 1.0) -> RingPlacement:
        """The next version: keys move to the new shard only, about its share of them."""
        return RingPlacement(self.ring.add(Member(name, weight)), self.version + 1)

    def without_shard(self, name: str) -> RingPlacement:
        """The next version: only its own keys move. Raises NotFound, InvalidInput for the last."""
        ring = self.ring.remove(name)
        if not ring.members:
            raise InvalidInput("the last shard of a ring stays", field="name")
        return RingPlacement(ring, self.version + 1)
