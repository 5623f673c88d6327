"""One LISTEN connection per database: what PostgreSQL says about orders, and when it was deaf.

A notification is a hint, never the truth. Between a lost connection and the next LISTEN nobody
hears anything, so `on_gap` is called as soon as it listens again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from month3_messaging.orders import STATUS_CHANNEL, Status, StatusChange
from scalelab.clients.postgres import Database
from scalelab.errors import CorruptData, OutcomeUnknown, Unavailable
from scalelab.telemetry import Log


@dataclass(frozen=True, slots=True)
class ListenPace:
    """reconnect_s: pause before a lost listener tries again. check_s: of silence before a check."""

    reconnect_s: float = 0.5
    check_s: float = 5.0


class PostgresNotices:
    """Calls `on_notice(payload)` per notification; an async context manager owning the listeners.

    on_gap: called whenever a listener listens (again): what happened before was not heard.
    """

    def __init__(
        self,
        databases: Sequence[Database],
        *,
        on_notice: Callable[[str], None],
        on_gap: Callable[[], None],
        log: Log,
        pace: ListenPace | None = None,
    ) -> None:
        self._databases = tuple(databases)
        self._on_notice = on_notice
        self._on_gap = on_gap
        self._log = log
        self._pace = pace or ListenPace()
        self._listening = {database.name: asyncio.Event() for database in self._databases}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._listen(database), name=f"status of {database.name}")
            for database in self._databases
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Return when every database is listened to; waits for it without a bound of its own."""
        await asyncio.gather(*(event.wait() for event in self._listening.values()))

    async def _listen(self, database: Database) -> None:
        listening = self._listening[database.name]
        while True:
            try:
                async for payload in self._notifications(database):
                    self._on_notice(payload)
            except (Unavailable, OutcomeUnknown, TimeoutError) as error:
                self._log.warning("status_listener_lost", database=database.name, error=str(error))
            listening.clear()
            await asyncio.sleep(self._pace.reconnect_s)

    async def _notifications(self, database: Database) -> AsyncIterator[str]:
        """Payloads, until the connection breaks; checks it in silence every `check_s`."""
        check_s = self._pace.check_s
        async with database.dedicated() as conn:
            async with asyncio.timeout(check_s):
                await conn.execute(f"LISTEN {STATUS_CHANNEL}")
            self._listening[database.name].set()
            # What happened while nobody listened is in the history.
            self._on_gap()
            while True:
                async for notice in conn.notifies(timeout=check_s):
                    yield notice.payload
                async with asyncio.timeout(check_s):
                    await conn.execute("SELECT 1")


def read_notice(payload: str) -> tuple[UUID, StatusChange]:
    """Order and change of a notification. Raises CorruptData for one that no order wrote."""
    try:
        order_id, version, status, at = payload.split(" ")
        return UUID(order_id), StatusChange(
            int(version), Status(status), datetime.fromisoformat(at)
        )
    except ValueError as error:
        raise CorruptData("this notification was written by no order") from error
