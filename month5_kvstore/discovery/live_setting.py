"""A setting that is changed while the process runs: watched, read, and refused if it is nonsense.

The value in force is always one that could be read: a bad one is told of and changes nothing, a
registry that is away changes nothing, and a deleted key leads back to the default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Generic, Self, TypeVar

from month5_kvstore.discovery.registry import Registry
from scalelab.errors import InvalidInput, Retryable

T = TypeVar("T")
_PAUSE_S = (0.1, 2.0)


def ignore(complaint: str) -> None:
    """Listens to nothing."""


class LiveSetting(Generic[T]):
    """An async context manager. read: raises ValueError or InvalidInput for nonsense."""

    def __init__(
        self,
        registry: Registry,
        key: str,
        *,
        default: T,
        read: Callable[[bytes], T],
        random: Random,
        on_refused: Callable[[str], None] = ignore,
    ) -> None:
        self._registry = registry
        self._key = key
        self._default = default
        self._read = read
        self._random = random
        self._on_refused = on_refused
        self._task: asyncio.Task[None] | None = None
        self.value = default
        """The value in force."""
        self.refused = 0
        """How often a value was no value."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name=f"setting {self._key}")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def _follow(self) -> None:
        failures = 0
        while True:
            watch = self._registry.watch_setting(self._key)
            try:
                async for value in watch:
                    failures = 0
                    self._take(value)
            except Retryable:
                failures = min(failures + 1, 10)
            finally:
                await watch.aclose()
            pause_s = min(_PAUSE_S[1], _PAUSE_S[0] * 2**failures)
            await asyncio.sleep(pause_s * (0.5 + self._random.random()))

    def _take(self, value: bytes | None) -> None:
        try:
            self.value = self._default if value is None else self._read(value)
        except (ValueError, InvalidInput) as error:
            self.refused += 1
            self._on_refused(f"setting {self._key} stays as it is: {error}")
