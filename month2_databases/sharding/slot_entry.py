"""How a write gets to its slot while slots move: learn a newer map, or wait for a fence to open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from month2_databases.sharding.map_watch import MapWatch
from month2_databases.sharding.slot_guard import SlotFenced, StaleShardMap
from month2_databases.sharding.slot_states import StoredMap
from scalelab.clock import Clock

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class EntryPolicy:
    """refreshes: newer maps a write may need. fence_wait_s: how long it waits for a slot that is
    about to change its server, looking every `look_again_s`."""

    refreshes: int = 3
    fence_wait_s: float = 3.0
    look_again_s: float = 0.02


class SlotEntry(Generic[S]):
    """One write's way to `slot`. shard_of: the shard that a map names, or Unavailable."""

    def __init__(
        self,
        slot: int,
        maps: MapWatch,
        *,
        policy: EntryPolicy,
        clock: Clock,
        shard_of: Callable[[StoredMap], S],
    ) -> None:
        self.slot = slot
        self._maps = maps
        self._policy = policy
        self._clock = clock
        self._shard_of = shard_of
        self._refreshes_left = policy.refreshes
        self._fenced_since_s: float | None = None

    def place(self) -> tuple[S, int]:
        """Where the newest known map puts the slot, and that map's version."""
        stored = self._maps.current
        return self._shard_of(stored), stored.version

    async def learn(self, refusal: StaleShardMap, version: int) -> None:
        """Get a map newer than `version`; raises `refusal` after too many that did not help."""
        if self._refreshes_left == 0:
            raise refusal
        self._refreshes_left -= 1
        stored = await self._maps.refresh(beyond=version)
        if stored.version <= version:
            # The shard is ahead of the store, for the moment between its step and the map's.
            await asyncio.sleep(self._policy.look_again_s)

    async def wait(self, refusal: SlotFenced) -> None:
        """Let a fence's moment pass; raises `refusal` once it lasts longer than allowed."""
        now_s = self._clock.monotonic_s()
        if self._fenced_since_s is None:
            self._fenced_since_s = now_s
        if now_s - self._fenced_since_s > self._policy.fence_wait_s:
            raise refusal
        await asyncio.sleep(self._policy.look_again_s)
