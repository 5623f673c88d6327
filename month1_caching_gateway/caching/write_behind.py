"""Write-behind: accept a write in memory, answer at once, write the source in batches later.

Theory of operation
    Accepted writes wait in a map, so ten writes of one key are one: the last. A task takes up to
    `batch` keys, writes them in one go, and only then takes more; so a key's values reach the
    source in the order they were accepted. What fails is put back under anything newer and tried
    again, with growing pauses. Readers of this process see what waits before they see the cache.

What is lost, and therefore when to use it
    Accepted is not written. A process that is killed loses every write that waits: at most `limit`
    keys, about the last `flush_every_s` while the source keeps up, all of an outage when it does
    not. A test kills one and counts. Use it for what can be lost or counted again: views, last-seen
    times, positions. Not for orders, money or stock: those want an outbox or a log.

Guarantees
    G1  Memory is bounded: a new key over `limit` is refused (Overloaded) and was not accepted.
    G2  Each batch that fails in a way worth retrying is tried until it is written or `close` has
        waited `stop_within_s`; then what is left is told to the hook, by number.
    G3  A write the source refuses for good is given up alone and told; the rest goes on.

A batch whose outcome is unknown is written again: `write` must be idempotent. Other processes see
a write when it has been written, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Generic, TypeVar

from month1_caching_gateway.caching.answers import Answer, Versioned
from month1_caching_gateway.caching.cache_aside import CacheAside
from month1_caching_gateway.caching.events import Hook, Outcome, WritesLost, WritesWaiting, ignore
from scalelab.errors import InvalidInput, Overloaded, Retryable, ScalelabError
from scalelab.resilience.backoff import Backoff

T = TypeVar("T")

WriteMany = Callable[[Mapping[str, T]], Awaitable[Mapping[str, int]]]
"""Commits values under their keys, all or none, and gives the rows' new versions."""


@dataclass(frozen=True, slots=True)
class WriteBehindPolicy:
    """limit: keys that may wait. batch: keys of one write. flush_every_s: the longest a write waits
    while the source keeps up. backoff: the pauses between tries. stop_within_s: how long leaving
    waits for the source."""

    limit: int = 10_000
    batch: int = 500
    flush_every_s: float = 0.2
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, cap_s=5.0))
    stop_within_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.limit:
            raise InvalidInput(f"a batch of {self.batch} in {self.limit} places", field="batch")
        if min(self.flush_every_s, self.stop_within_s) <= 0:
            raise InvalidInput("every time of a write-behind is above 0 s", field="flush_every_s")


class WriteBehind(Generic[T]):
    """An async context manager that owns the writing task; leaving it writes what waits.

    cache: hears of every write; belongs to the caller and must be left later than this.
    """

    def __init__(
        self,
        cache: CacheAside[T],
        write: WriteMany[T],
        *,
        policy: WriteBehindPolicy,
        random: Random,
        hook: Hook = ignore,
    ) -> None:
        self._cache = cache
        self._write = write
        self._policy = policy
        self._random = random
        self._hook = hook
        self._waiting: dict[str, T] = {}
        self._sending: dict[str, T] = {}
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_open = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> WriteBehind[T]:
        self._is_open = True
        self._task = asyncio.create_task(self._run(), name="write-behind")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._policy.stop_within_s):
                await self.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left = len(self._sending.keys() | self._waiting.keys())
        if left:
            self._hook(WritesLost(left, "stopped"))

    @property
    def waiting(self) -> int:
        """Keys whose last value is not known to be written."""
        return len(self._sending.keys() | self._waiting.keys())

    def put(self, key: str, value: T) -> None:
        """Accept a write. It is not written yet, and lost if this process dies before it is.

        Raises Overloaded code `write_behind_full` (not accepted; retry) and Overloaded code
        `write_behind_closed`.
        """
        if not self._is_open or self._task is None or self._task.done():
            raise Overloaded("nobody writes behind any more", code="write_behind_closed")
        is_new = key not in self._waiting and key not in self._sending
        if is_new and self.waiting >= self._policy.limit:
            raise Overloaded(
                f"{self._policy.limit} keys wait for the source already", code="write_behind_full"
            )
        self._waiting[key] = value
        self._idle.clear()
        if len(self._waiting) >= self._policy.batch:
            self._wanted.set()

    async def get(self, key: str) -> Answer[T]:
        """What this process has accepted, else what the cache says."""
        for pending in (self._waiting, self._sending):
            if key in pending:
                return Answer(pending[key], Outcome.NEAR)
        return await self._cache.get(key)

    async def flush(self) -> None:
        """Return when everything accepted so far, and meanwhile, is written or given up."""
        self._wanted.set()
        await self._idle.wait()

    async def _run(self) -> None:
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.flush_every_s):
                    await self._wanted.wait()
            self._wanted.clear()
            while self._waiting:
                if await self._send():
                    failures = 0
                    continue
                failures += 1
                await asyncio.sleep(self._policy.backoff.delay_s(failures, self._random.random()))
            self._idle.set()

    async def _send(self) -> bool:
        """Write one batch. False: it failed, stands again, and is worth another try."""
        keys = list(self._waiting)[: self._policy.batch]
        self._sending = {key: self._waiting.pop(key) for key in keys}
        written = False
        try:
            await self._commit(self._sending)
            written = True
        except Retryable:
            return False
        except ScalelabError:
            written = await self._send_one_by_one()
            return written
        finally:
            if not written:
                self._waiting = {**self._sending, **self._waiting}
            self._sending = {}
            self._hook(WritesWaiting(len(self._waiting)))
        return True

    async def _send_one_by_one(self) -> bool:
        """Find what the source refuses, give it up, and write the others."""
        for key, value in list(self._sending.items()):
            try:
                await self._commit({key: value})
            except Retryable:
                return False
            except ScalelabError as error:
                self._hook(WritesLost(1, error.stable_code))
            del self._sending[key]
        return True

    async def _commit(self, values: Mapping[str, T]) -> None:
        versions = await self._write(values)
        rows = {key: Versioned(values[key], version) for key, version in versions.items()}
        await self._cache.replace_many(rows)
