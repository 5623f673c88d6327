"""The hub: one listener per database tells any number of streams that an order moved.

Theory of operation
    The transaction that gives an order a status also sends a notification; PostgreSQL delivers it
    after the commit. The hub holds one LISTEN connection per database and hands each notification
    to the watchers of that order. A notification is a hint, never the truth: a watcher whose
    queue is full, or all of them when a listener's connection was lost, are told to look into the
    history instead. So nothing is missed, whatever is dropped here.

Bounds: `queue` hints per watcher, `per_user` watchers per user, `watchers` in all.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from month3_messaging.orders import STATUS_CHANNEL, Status, StatusChange
from scalelab.clients.postgres import Database
from scalelab.errors import OutcomeUnknown, Overloaded, RateLimited, Unavailable
from scalelab.telemetry import Log


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Bounds and paces. reconnect_s: pause before a lost listener tries again."""

    queue: int = 16
    per_user: int = 8
    watchers: int = 2000
    reconnect_s: float = 0.5
    check_s: float = 5.0


class Watcher:
    """Hints about one order. `None` from `next` means: look into the history."""

    def __init__(self, bound: int) -> None:
        self._hints: asyncio.Queue[StatusChange] = asyncio.Queue(bound)
        self._look = asyncio.Event()
        self._stirred = asyncio.Event()

    def tell(self, change: StatusChange) -> None:
        """Give a hint; if there is no room, ask for a look instead."""
        try:
            self._hints.put_nowait(change)
        except asyncio.QueueFull:
            self._look.set()
        self._stirred.set()

    def look_again(self) -> None:
        """Say that hints may have been lost."""
        self._look.set()
        self._stirred.set()

    async def next(self) -> StatusChange | None:
        """The next hint, or None when the history has to be read."""
        while True:
            self._stirred.clear()
            if self._look.is_set():
                self._look.clear()
                while not self._hints.empty():
                    self._hints.get_nowait()
                return None
            if not self._hints.empty():
                return self._hints.get_nowait()
            await self._stirred.wait()


class StatusHub:
    """Fans notifications out to watchers; an async context manager that owns the listeners."""

    def __init__(
        self, databases: Sequence[Database], *, log: Log, settings: HubSettings | None = None
    ) -> None:
        self._databases = tuple(databases)
        self._log = log
        self._settings = settings or HubSettings()
        self._watchers: defaultdict[UUID, set[Watcher]] = defaultdict(set)
        self._per_user: Counter[str] = Counter()
        self._listening = {database.name: asyncio.Event() for database in self._databases}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._listen(database), name=f"status hub {database.name}")
            for database in self._databases
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def watching(self) -> int:
        """How many watchers there are now."""
        return self._per_user.total()

    async def ready(self) -> None:
        """Return when every database is listened to; waits for it without a bound of its own."""
        await asyncio.gather(*(event.wait() for event in self._listening.values()))

    @asynccontextmanager
    async def watch(self, user_id: str, order_id: UUID) -> AsyncGenerator[Watcher, None]:
        """Hints about `order_id` from now on. Raises RateLimited or Overloaded at the bounds."""
        if self._per_user[user_id] >= self._settings.per_user:
            raise RateLimited(
                f"at most {self._settings.per_user} streams per user at once",
                code="too_many_streams",
            )
        if self.watching >= self._settings.watchers:
            raise Overloaded("too many streams are open here", code="too_many_streams")
        watcher = Watcher(self._settings.queue)
        self._per_user[user_id] += 1
        self._watchers[order_id].add(watcher)
        try:
            yield watcher
        finally:
            self._per_user[user_id] -= 1
            if not self._per_user[user_id]:
                del self._per_user[user_id]
            self._watchers[order_id].discard(watcher)
            if not self._watchers[order_id]:
                del self._watchers[order_id]

    async def _listen(self, database: Database) -> None:
        listening = self._listening[database.name]
        while True:
            try:
                async for payload in self._notifications(database):
                    self._spread(payload)
            except (Unavailable, OutcomeUnknown, TimeoutError) as error:
                self._log.warning("status_listener_lost", database=database.name, error=str(error))
            listening.clear()
            await asyncio.sleep(self._settings.reconnect_s)

    async def _notifications(self, database: Database) -> AsyncIterator[str]:
        """Payloads, until the connection breaks; checks it in silence every `check_s`."""
        async with database.dedicated() as conn:
            async with asyncio.timeout(self._settings.check_s):
                await conn.execute(f"LISTEN {STATUS_CHANNEL}")
            self._listening[database.name].set()
            # What happened while nobody listened is in the history.
            for watchers in self._watchers.values():
                for watcher in watchers:
                    watcher.look_again()
            while True:
                async for notice in conn.notifies(timeout=self._settings.check_s):
                    yield notice.payload
                async with asyncio.timeout(self._settings.check_s):
                    await conn.execute("SELECT 1")

    def _spread(self, payload: str) -> None:
        order_id, change = _read(payload)
        for watcher in self._watchers.get(order_id, ()):
            watcher.tell(change)


def _read(payload: str) -> tuple[UUID, StatusChange]:
    order_id, version, status, at = payload.split(" ")
    return UUID(order_id), StatusChange(int(version), Status(status), datetime.fromisoformat(at))
