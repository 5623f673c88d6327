"""Clients that ask without a pause and keep count: what failed, and what was answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.integration.month1.gateway.harness import RawClient, until


@dataclass
class Tally:
    """answered: by status. broken: requests whose connection ended first; refused: no connection.

    after: broken or refused on connections opened after `mark`.
    """

    answered: Counter[int] = field(default_factory=Counter[int])
    broken: int = 0
    refused: int = 0
    after: int = 0
    marked: bool = False

    @property
    def failed(self) -> int:
        """Every request that got no 200."""
        return self.broken + self.refused + sum(self.answered.values()) - self.answered[200]

    async def more(self, count: int) -> None:
        """Wait for so many more answers."""
        target = self.answered.total() + count
        await until(lambda: self.answered.total() >= target, f"{count} more answers: {self}")


@asynccontextmanager
async def load(
    port: int, target: Callable[[], str] | str, *, clients: int = 6, per_connection: int = 20
) -> AsyncIterator[Tally]:
    """`clients` connections at a time, each replaced after `per_connection` requests."""
    tally, stop = Tally(), asyncio.Event()
    path = target if callable(target) else lambda: target
    tasks = [
        asyncio.create_task(_client(port, path, tally, stop, per_connection))
        for _ in range(clients)
    ]
    try:
        yield tally
        stop.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _client(
    port: int, path: Callable[[], str], tally: Tally, stop: asyncio.Event, per_connection: int
) -> None:
    while not stop.is_set():
        late = tally.marked
        try:
            http = RawClient(*await asyncio.open_connection("127.0.0.1", port))
        except OSError:
            tally.refused += 1
            tally.after += late
            continue
        try:
            for _ in range(per_connection):
                got = await http.ask("GET", path())
                tally.answered[got.status] += 1
                if stop.is_set() or got.headers.get("connection") == "close":
                    break
        except (EOFError, ConnectionError):
            tally.broken += 1
            tally.after += late
        finally:
            http.close()
