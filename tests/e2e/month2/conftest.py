"""One private stack of the month for all its tests, at the place where its commands look for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from month2_databases.stack import Stack


@pytest.fixture(scope="session")
def lab_root(server_root: Path) -> Path:
    """A clone's root with nothing in it."""
    return server_root / "month2-clone"


@pytest.fixture(scope="session")
def stack(lab_root: Path) -> Iterator[Stack]:
    """A private stack with no orders; its lock is held, as its supervisor would."""
    from month2_databases.stack import start_stack
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.supervisor.state import StackPaths
    from tests.fixtures.stacks import lock_held

    paths = StackPaths(lab_root, "month2")
    with Runtime(paths.folder, private=True, is_disposable=True) as runtime:
        started = start_stack(runtime)
        with lock_held(paths):
            yield started


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    """A caller of the order book."""
    with httpx.Client(base_url=stack.url, timeout=30.0) as opened:
        yield opened
