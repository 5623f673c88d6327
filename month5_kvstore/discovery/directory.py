"""The caller's side: who serves, known without asking for each call.

Theory of operation
    One watch a service fills a view. When the registry is away the view keeps what it last held and
    is marked stale: to call those who were there a minute ago is better than to call nobody, and
    whoever is gone is noticed by the call. The watch is tried again with growing pauses; the first
    set it gives replaces the view and ends the mark.

Invariants (tests cite them)
    V1  A view changes by what a watch gave, never by a failure.
    V2  A view is stale from the failure of its watch until the next set, and while none came yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Self

from month5_kvstore.discovery.instances import Instance, check_label
from month5_kvstore.discovery.registry import Registry
from scalelab.errors import NotFound, Retryable

_PAUSE_S = (0.1, 2.0)


@dataclass(frozen=True, slots=True)
class View:
    """Who serves, as last heard. stale: the registry is away. changes: sets heard so far."""

    instances: tuple[Instance, ...] = ()
    stale: bool = True
    changes: int = 0

    def heard(self, instances: tuple[Instance, ...]) -> View:
        """After a set from the watch (V2)."""
        return View(instances, stale=False, changes=self.changes + 1)

    def away(self) -> View:
        """After the watch failed (V1)."""
        return replace(self, stale=True)


class Directory:
    """Views of some services; an async context manager. random: jitter of the pauses."""

    def __init__(self, registry: Registry, services: Iterable[str], *, random: Random) -> None:
        self._registry = registry
        self._random = random
        self._views = {service: View() for service in services}
        for service in self._views:
            check_label(service, "service")
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._follow(service), name=f"directory of {service}")
            for service in self._views
        ]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        failed = [task for task in self._tasks if not task.cancelled()]
        self._tasks = []
        for task in failed:
            task.result()

    def view(self, service: str) -> View:
        """Of one of the services; no waiting. Raises NotFound for one that is not followed."""
        found = self._views.get(service)
        if found is None:
            raise NotFound(f"{service} is not followed here", code="service_not_followed")
        return found

    async def until(self, service: str, holds: Callable[[View], bool]) -> View:
        """Wait until its view is so; the caller sets the deadline."""
        async with self._changed:
            await self._changed.wait_for(lambda: holds(self.view(service)))
        return self.view(service)

    async def _follow(self, service: str) -> None:
        failures = 0
        while True:
            watch = self._registry.watch(service)
            try:
                async for instances in watch:
                    failures = 0
                    await self._set(service, self.view(service).heard(instances))
            except Retryable:
                await self._set(service, self.view(service).away())
            finally:
                await watch.aclose()
            pause_s = min(_PAUSE_S[1], _PAUSE_S[0] * 2**failures)
            failures = min(failures + 1, 10)
            await asyncio.sleep(pause_s * (0.5 + self._random.random()))

    async def _set(self, service: str, view: View) -> None:
        async with self._changed:
            self._views[service] = view
            self._changed.notify_all()
