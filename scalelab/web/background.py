"""Work that lives as long as an application and is nobody's request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from scalelab.errors import Unavailable


class Background:
    """Tasks that never end by themselves; one that does makes the application unready.

    Their errors are not raised here: the process stays up for whoever looks at it, and out of
    the balancer's rotation.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self, *work: Coroutine[Any, Any, None]) -> AsyncGenerator[None, None]:
        """Start the tasks; cancel them and wait for them at the end."""
        self._tasks = [asyncio.create_task(each, name=each.__name__) for each in work]
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Raises Unavailable, naming it, if a task has ended."""
        ended = [task.get_name() for task in self._tasks if task.done()]
        if ended:
            raise Unavailable(f"ended: {', '.join(ended)}", code="background_ended")
