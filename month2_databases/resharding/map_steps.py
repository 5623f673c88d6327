"""What a move changes in the stored map: announce, fence, switch, take back; each repeatable.

The map may change under a move, for others move other slots. Each act reads the newest version,
does nothing if it is as it should be, and otherwise tries to put the next one until nobody was
faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from month2_databases.sharding import MapStore, SlotState, StoredMap
from scalelab.errors import Conflict, OutcomeUnknown, Unavailable

if TYPE_CHECKING:
    from month2_databases.resharding.steps import Move
    from month2_databases.resharding.target import Target

_TRIES = 50


async def announce(store: MapStore, move: Move) -> StoredMap:
    """The slots are on their way. Raises Conflict where another move has one of them."""

    def change(stored: StoredMap) -> StoredMap | None:
        return None if _is_under_way(stored, move) else stored.moving(move.slots, move.target)

    return await _change(store, change, f"{move.name}: moving")


async def fence(store: MapStore, move: Move) -> StoredMap:
    """The slots take no writes at their owner."""

    def change(stored: StoredMap) -> StoredMap | None:
        fenced = all(stored.state_of(slot) is SlotState.FENCED for slot in move.slots)
        return None if fenced else stored.fenced(move.slots)

    return await _change(store, change, f"{move.name}: fenced")


async def switch(
    store: MapStore, move: Move, target: Target, *, passed: Callable[[str], None]
) -> StoredMap:
    """The target owns the slots: it is told first, then the map says so.

    Between the two only the target would take a write, and nobody is sent there yet.
    """
    for _ in range(_TRIES):
        stored = await store.current()
        if all(stored.shard_map.shard_of(slot) == move.target for slot in move.slots):
            await target.open(map_version=stored.version)
            return stored
        after = stored.switched(move.slots)
        await target.open(map_version=after.version)
        passed("switching.opened")
        if (placed := await _put(store, after, f"{move.name}: switched")) is not None:
            return placed
    raise _busy()


async def take_back(store: MapStore, move: Move) -> int:
    """The slots stay with their owner. Returns the version that says so."""

    def change(stored: StoredMap) -> StoredMap | None:
        mine = [s for s in move.slots if (m := stored.move_of(s)) and m.to == move.target]
        return stored.kept(mine) if mine else None

    return (await _change(store, change, f"{move.name}: taken back")).version


def _is_under_way(stored: StoredMap, move: Move) -> bool:
    under_way = [stored.move_of(slot) for slot in move.slots]
    return all(one is not None and one.to == move.target for one in under_way)


async def _change(
    store: MapStore, change: Callable[[StoredMap], StoredMap | None], reason: str
) -> StoredMap:
    for _ in range(_TRIES):
        stored = await store.current()
        after = change(stored)
        if after is None:
            return stored
        if (placed := await _put(store, after, reason)) is not None:
            return placed
    raise _busy()


async def _put(store: MapStore, after: StoredMap, reason: str) -> StoredMap | None:
    """The map as placed; None if it may not be placed: read it again."""
    try:
        return await store.publish(after, reason=reason)
    except OutcomeUnknown:
        return None
    except Conflict as error:
        if error.stable_code != "shard_map_raced":
            raise
        return None


def _busy() -> Unavailable:
    return Unavailable("the shard map changes too often", code="shard_map_busy")
