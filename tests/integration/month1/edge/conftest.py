"""Edges of a test in the session's runtime: started by a call, stopped after the test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import pytest

from month1_caching_gateway.edge import EdgeSettings
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx
from tests.integration.month1.edge.bed import start_edge

StartEdge = Callable[[EdgeSettings], Awaitable[Nginx]]


@pytest.fixture(scope="session")
def edge_names() -> Iterator[str]:
    """Names that no other edge of the session has."""
    return (f"t{number}" for number in itertools.count())


@pytest.fixture
async def started(runtime: Runtime) -> AsyncIterator[StartEdge]:
    """`await started(settings)`: an edge that ends with the test."""
    names: list[str] = []

    async def start(settings: EdgeSettings) -> Nginx:
        server = await asyncio.to_thread(start_edge, runtime, settings)
        names.append(server.name)
        return server

    yield start
    for name in names:
        await asyncio.to_thread(runtime.stop, name)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that decides nothing by itself."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session
