"""Map watch: the newest shard map in memory, replaced whole when the store has a newer one.

Theory of operation
    A connection of its own listens to the store and reads the map when it is told of a version,
    and every `poll_s` besides, as a notification can be lost with its connection. A map is only
    ever replaced by a newer one. When the store is away the last map serves on: the shards refuse
    what is stale in it, so an old map is slow, not wrong.

Guarantees
    G1  `current` never goes back to an older version.
    G2  `refresh` returns a map that was the store's newest after the call began, or raises.
    G3  Every new map is given to the subscribers once, in order, on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

import psycopg

from month2_databases.sharding.map_store import CHANNEL, MapStore
from month2_databases.sharding.slot_states import StoredMap
from scalelab.clients.postgres import cut_off_after
from scalelab.clock import Clock
from scalelab.errors import ScalelabError, Unavailable

MapListener = Callable[[StoredMap], None]
"""Called on the event loop with every newer map; must not block or raise."""


class MapWatch:
    """The stored map, cached and kept up to date; an async context manager.

    Entering reads the map once: it raises Unavailable or NotFound where there is none to read,
    unless `initial` is given to start on. poll_s: between two looks without a notification.
    answer_s: how long the store may take to answer. trouble: why the store is not followed now.
    """

    def __init__(
        self,
        store: MapStore,
        *,
        clock: Clock,
        initial: StoredMap | None = None,
        poll_s: float = 1.0,
        answer_s: float = 2.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._map = initial
        self._poll_s = poll_s
        self._answer_s = answer_s
        self._seen_at_s: float | None = None
        self._listeners: list[MapListener] = []
        self._refreshing: asyncio.Task[StoredMap] | None = None
        self._task: asyncio.Task[None] | None = None
        self.trouble: ScalelabError | None = None
        self.is_listening = False

    async def __aenter__(self) -> Self:
        try:
            await self._read()
        except ScalelabError as error:
            if self._map is None:
                raise
            self.trouble = error
        self._task = asyncio.create_task(self._follow(), name="shard-map-watch")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in (self._task, self._refreshing):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    @property
    def current(self) -> StoredMap:
        """The map to route by. Raises Unavailable before the watch was entered."""
        if self._map is None:
            raise Unavailable("no shard map has been read yet", code="shard_map_missing")
        return self._map

    def age_s(self) -> float:
        """Seconds since the store last said that this map is the newest; infinite if never."""
        if self._seen_at_s is None:
            return float("inf")
        return self._clock.monotonic_s() - self._seen_at_s

    def subscribe(self, listener: MapListener) -> None:
        """Have `listener` told of every newer map; it is told the current one at once."""
        self._listeners.append(listener)
        if self._map is not None:
            listener(self._map)

    async def refresh(self, *, beyond: int = 0) -> StoredMap:
        """The store's newest map. A cached one newer than `beyond` is returned without asking.

        Callers that come together share one query. Raises Unavailable if the store is away.
        """
        if beyond and self.current.version > beyond:
            return self.current
        if self._refreshing is not None and not self._refreshing.done():
            # It may have read before this call began; the one after it has not.
            await asyncio.wait([self._refreshing])
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._read(), name="shard-map-refresh")
            self._refreshing.add_done_callback(_seen)
        return await asyncio.shield(self._refreshing)

    async def _follow(self) -> None:
        while True:
            try:
                async with self._store.database.dedicated() as conn:
                    with cut_off_after(conn, self._answer_s):
                        await conn.execute(f"LISTEN {CHANNEL}")
                    self.is_listening = True
                    while True:
                        await self._read()
                        self.trouble = None
                        async for _ in conn.notifies(timeout=self._poll_s, stop_after=1):
                            pass
            except ScalelabError as error:
                self.trouble = error
            except psycopg.Error as error:
                self.trouble = Unavailable(f"the shard map's watch broke: {error}")
            self.is_listening = False
            await asyncio.sleep(self._poll_s)

    async def _read(self) -> StoredMap:
        asked_at_s = self._clock.monotonic_s()
        stored = await self._store.current(timeout_s=self._answer_s)
        self._seen_at_s = max(self._seen_at_s or asked_at_s, asked_at_s)
        if self._map is None or stored.version > self._map.version:
            self._map = stored
            for listener in self._listeners:
                listener(stored)
        return self.current


def _seen(task: asyncio.Task[StoredMap]) -> None:
    """Its callers may all have been cancelled; then nobody else looks at its error."""
    if not task.cancelled():
        task.exception()
