"""Loads behind the readers: they have their answer already, nobody waits for these.

A key is loaded anew by one task at a time in this process, and at most `limit` tasks run; what is
over is left to the next reader. A failure is told to the hook and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from month1_caching_gateway.caching.events import Hook, RefreshFailed
from scalelab.errors import ScalelabError


class Refreshes:
    """Owns its tasks; `aclose` cancels and awaits them. timeout_s: deadline of one load."""

    def __init__(
        self,
        load: Callable[[Sequence[str]], Awaitable[object]],
        *,
        timeout_s: float,
        hook: Hook,
        limit: int = 32,
    ) -> None:
        self._load = load
        self._timeout_s = timeout_s
        self._hook = hook
        self._limit = limit
        self._keys: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, keys: Sequence[str]) -> None:
        """Load those of the keys anew that nobody is loading behind already. Does not wait."""
        new = [key for key in keys if key not in self._keys]
        if not new or len(self._tasks) >= self._limit:
            return
        self._keys.update(new)
        task = asyncio.create_task(self._run(new), name=f"refresh of {new[0]}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Give up what is under way."""
        pending = list(self._tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _run(self, keys: list[str]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._load(keys)
        except ScalelabError as error:
            self._hook(RefreshFailed(len(keys), error.stable_code))
        except TimeoutError:
            self._hook(RefreshFailed(len(keys), "load_timeout"))
        finally:
            self._keys.difference_update(keys)
