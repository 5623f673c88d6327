"""Hash placement: a key hashes to one of 256 slots for ever, the shard map says who has the slot.

Neighbouring keys scatter, so load is even unless one key is hot, and a range of keys asks every
shard. Growing moves whole slots; no key is ever hashed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from month2_databases.sharding.placement import text_key
from month2_databases.sharding.shard_map import ShardMap
from scalelab.errors import InvalidInput
from scalelab.hashing import slot_for_key
from scalelab.ids import SLOT_COUNT


@dataclass(frozen=True, slots=True)
class HashPlacement:
    """Text keys over the slots of a shard map."""

    shard_map: ShardMap

    @property
    def version(self) -> int:
        return self.shard_map.version

    @property
    def shards(self) -> tuple[str, ...]:
        return self.shard_map.shards

    def shard_of(self, key: object) -> str:
        return self.shard_map.owners[slot_for_key(text_key(key))]


def map_of_claims(version: int, claims: Mapping[str, Iterable[int]]) -> ShardMap:
    """The map in which every shard has the slots that it claims.

    Raises InvalidInput code `slot_owned_twice`, `slot_without_owner` or `slot_unknown`, naming the
    first such slot: a map that leaves a doubt about one slot is no map.
    """
    owners: dict[int, str] = {}
    for shard, slots in claims.items():
        for slot in slots:
            if not 0 <= slot < SLOT_COUNT:
                raise _refused(f"{shard} claims slot {slot}; there is none", "slot_unknown")
            if slot in owners:
                both = f"{owners[slot]} and {shard}"
                raise _refused(f"slot {slot} is claimed by {both}", "slot_owned_twice")
            owners[slot] = shard
    missing = next((slot for slot in range(SLOT_COUNT) if slot not in owners), None)
    if missing is not None:
        raise _refused(f"nobody claims slot {missing}", "slot_without_owner")
    return ShardMap(version, tuple(owners[slot] for slot in range(SLOT_COUNT)))


def _refused(message: str, code: str) -> InvalidInput:
    return InvalidInput(message, field="claims", code=code)
