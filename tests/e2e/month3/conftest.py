"""The month's stack, once for the tests of it and for those of the month's commands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from month3_messaging.stack import Stack, start_stack
from scalelab.clients.http import HttpClient
from scalelab.lab.runtime import Runtime
from scalelab.lab.supervisor.state import ProcessView, StackPaths, StackState, publish
from tests.fixtures.stacks import lock_held

PRODUCTS = 20


@pytest.fixture(scope="session")
def lab_root(server_root: Path) -> Path:
    """A clone's root with nothing in it."""
    return server_root / "month3-clone"


@pytest.fixture(scope="session")
def stack(lab_root: Path) -> Iterator[Stack]:
    """A private stack; its lock is held and its state published, as its supervisor would."""
    paths = StackPaths(lab_root, "month3")
    with Runtime(paths.folder, private=True, is_disposable=True) as runtime:
        started = start_stack(runtime, products=PRODUCTS, pieces=100_000)
        with lock_held(paths):
            publish(paths.state, _state(started))
            yield started


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[HttpClient]:
    """A caller of the orders' door."""
    async with HttpClient(stack.addresses.url("orders"), timeout_s=30.0) as opened:
        yield opened


def _state(stack: Stack) -> StackState:
    """As much of it as the commands ask for: where each process listens."""
    views = tuple(
        ProcessView(name, None, 0.0, port, None, None, None, "running", "")
        for name, port in stack.addresses.ports.items()
    )
    return StackState("month3", "ready", "ready", 0, 0.0, processes=views)
