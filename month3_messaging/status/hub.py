"""The hub: one listener per database tells any number of streams that an order moved.

Theory of operation
    The transaction that gives an order a status also sends a notification; PostgreSQL delivers it
    after the commit. The hub holds one LISTEN connection per database and hands each notification
    to the watchers of that order. A notification is a hint, never the truth: a watcher whose
    queue is full, or all of them when a listener's connection was lost, are told to look into the
    history instead. So nothing is missed, whatever is dropped here.

Bounds: `queue` hints per watcher, `per_user` watchers per user, `watchers` in all. With many
nodes, `redis_hub` does the same with one connection per node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from month3_messaging.orders import StatusChange
from month3_messaging.status.client_queue import Update
from month3_messaging.status.followers import Followers
from month3_messaging.status.postgres_notices import ListenPace, PostgresNotices, read_notice
from scalelab.clients.postgres import Database
from scalelab.errors import CorruptData
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

    def hear(self, update: Update) -> None:
        """A hint as a hub spreads it."""
        self.tell(update.change)

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


class Hub(Protocol):
    """What streams need of a hub; one contract suite holds both."""

    @property
    def followers(self) -> Followers:
        """Who follows what on this node."""
        ...

    def watch(self, user_id: str, order_id: UUID) -> AbstractAsyncContextManager[Watcher]:
        """Hints about `order_id` from now on. Raises RateLimited or Overloaded at the bounds."""
        ...

    async def ready(self) -> None:
        """Return when updates arrive; waits for it without a bound of its own."""
        ...


@asynccontextmanager
async def watch(
    followers: Followers, user_id: str, order_id: UUID, *, queue: int
) -> AsyncGenerator[Watcher, None]:
    """A hub's `watch` on its followers. queue: hints that may wait."""
    with followers.admit(user_id):
        watcher = Watcher(queue)
        followers.follow(order_id, watcher)
        try:
            yield watcher
        finally:
            followers.unfollow(order_id, watcher)


class StatusHub:
    """Fans notifications out to watchers; an async context manager that owns the listeners."""

    def __init__(
        self, databases: Sequence[Database], *, log: Log, settings: HubSettings | None = None
    ) -> None:
        self._log = log
        self._settings = settings or HubSettings()
        self.followers = Followers(per_user=self._settings.per_user, in_all=self._settings.watchers)
        self._notices = PostgresNotices(
            databases,
            on_notice=self._spread,
            on_gap=self.followers.look_again,
            log=log,
            pace=ListenPace(self._settings.reconnect_s, self._settings.check_s),
        )

    async def __aenter__(self) -> Self:
        await self._notices.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._notices.__aexit__(*exc)

    @property
    def watching(self) -> int:
        """How many watchers there are now."""
        return self.followers.admitted

    def watch(self, user_id: str, order_id: UUID) -> AbstractAsyncContextManager[Watcher]:
        """Hints about `order_id` from now on. Raises RateLimited or Overloaded at the bounds."""
        return watch(self.followers, user_id, order_id, queue=self._settings.queue)

    async def ready(self) -> None:
        """Return when every database is listened to; waits for it without a bound of its own."""
        await self._notices.ready()

    def _spread(self, payload: str) -> None:
        try:
            self.followers.spread(*read_notice(payload))
        except CorruptData as error:
            # Anyone with the database's password may notify; the listener must outlive it.
            self._log.warning("status_notice_unreadable", error=str(error))
