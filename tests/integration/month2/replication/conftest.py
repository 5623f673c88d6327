"""A primary with two replicas for tests that route reads; a test that breaks it repairs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from month2_databases.replication import ReadRouted, SessionRouter
from scalelab.clock import SystemClock

if TYPE_CHECKING:
    from month2_databases.experiments.replicated import Replicated
    from scalelab.lab.runtime import Runtime

FAST = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Bed:
    """A running cluster, and routers on it."""

    runtime: Runtime
    replicated: Replicated

    @asynccontextmanager
    async def router(
        self, events: list[ReadRouted] | None = None, **changes: Any
    ) -> AsyncGenerator[SessionRouter]:
        """A session router that polls quickly; `changes` of its arguments."""
        from month2_databases.experiments.replicated import KEY

        router = SessionRouter(
            changes.pop("settings", self.replicated.settings),
            token_keys=[KEY],
            clock=SystemClock(),
            poll_s=0.02,
            hooks=[events.append] if events is not None else [],
            **changes,
        )
        async with router:
            yield router


@pytest.fixture(scope="session")
def notes(server_root: Path) -> Iterator[Bed]:
    """The cluster `notes`: three servers."""
    from month2_databases.experiments.replicated import start_replicated
    from scalelab.lab.runtime import Runtime

    with Runtime(server_root / "notes", private=True, is_disposable=True) as runtime:
        yield Bed(runtime, start_replicated(runtime, "notes", settings=FAST))
