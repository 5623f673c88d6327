"""Single flight: however many ask for a key at once, the source is asked once.

A caller names keys. Keys that somebody is already loading are joined; the rest are loaded
together in one call. The load runs in a task of its own, so a caller that gives up does not take
the others' answer away. Every load has a deadline, and the number of loads under way is bounded.

`forget` ends joining: a caller that comes after a write must not be given a read that began
before it.

Guarantees: per key at most one joinable load at a time in this process (other processes have
their own). A failed load fails all who joined it and is not remembered.
Source: Go's golang.org/x/sync/singleflight; differs in: several keys share one load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Generic, TypeVar

from scalelab.errors import Overloaded, Unavailable

T = TypeVar("T")

Load = Callable[[Sequence[str]], Awaitable[Mapping[str, T]]]
"""Takes distinct keys, gives a mapping that has every one of them."""


class SingleFlight(Generic[T]):
    """An async context manager that owns the loads under way; leaving it cancels and awaits them.

    timeout_s: deadline of one load. limit: loads under way at once, beyond it Overloaded.
    """

    def __init__(self, load: Load[T], *, timeout_s: float, limit: int = 256) -> None:
        self._load = load
        self._timeout_s = timeout_s
        self._limit = limit
        self._joinable: dict[str, asyncio.Task[Mapping[str, T]]] = {}
        self._tasks: set[asyncio.Task[Mapping[str, T]]] = set()

    async def __aenter__(self) -> SingleFlight[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    @property
    def under_way(self) -> int:
        """Loads that have not ended yet."""
        return len(self._tasks)

    async def get(self, keys: Sequence[str]) -> dict[str, T]:
        """The source's answer for each key.

        Raises what the load raises; Unavailable code `load_timeout` when it outran its deadline;
        Overloaded when too many loads are under way. Reads only, so neither left an effect.
        """
        flights = {key: self._joinable[key] for key in keys if key in self._joinable}
        new = [key for key in dict.fromkeys(keys) if key not in flights]
        if new:
            flights.update(dict.fromkeys(new, self._start(new)))
        answers: dict[str, T] = {}
        for key, flight in flights.items():
            answers[key] = (await _result(flight))[key]
        return answers

    def forget(self, key: str) -> None:
        """Let nobody else join the load of `key` that is under way; those who joined keep it."""
        self._joinable.pop(key, None)

    def _start(self, keys: list[str]) -> asyncio.Task[Mapping[str, T]]:
        if len(self._tasks) >= self._limit:
            raise Overloaded(f"{self._limit} loads are under way already", code="loads_exhausted")
        task = asyncio.create_task(self._run(keys), name=f"load {keys[0]} and {len(keys) - 1} more")
        self._tasks.add(task)
        self._joinable.update(dict.fromkeys(keys, task))
        task.add_done_callback(lambda done: self._end(keys, done))
        return task

    async def _run(self, keys: list[str]) -> Mapping[str, T]:
        deadline = asyncio.timeout(self._timeout_s)
        try:
            async with deadline:
                return await self._load(keys)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise Unavailable(
                f"loading {len(keys)} keys took longer than {self._timeout_s} s",
                code="load_timeout",
            ) from error

    def _end(self, keys: list[str], task: asyncio.Task[Mapping[str, T]]) -> None:
        self._tasks.discard(task)
        for key in keys:
            if self._joinable.get(key) is task:
                del self._joinable[key]
        if not task.cancelled():
            task.exception()  # marks it as seen: all who asked may have given up


async def _result(flight: asyncio.Task[Mapping[str, T]]) -> Mapping[str, T]:
    """Wait for a load without owning it: our cancellation must not become the load's."""
    try:
        return await asyncio.shield(flight)
    except asyncio.CancelledError:
        caller = asyncio.current_task()
        if flight.cancelled() and caller is not None and not caller.cancelling():
            raise Unavailable("the cache is closing; the load was given up") from None
        raise
