"""Clients are sent to the near edge, and to the other one when it is gone: over real distance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from month1_caching_gateway.edge import EdgePoint, EdgeResolver, EdgeSettings, Servers
from scalelab.clock import SystemClock
from scalelab.errors import Unavailable
from scalelab.lab.faults import DelayProxy, Line
from tests.integration.month1.edge.conftest import StartEdge

NEAR, FAR = Line(0.002), Line(0.15)


async def test_the_near_edge_is_found_lost_and_found_again(
    started: StartEdge, http: aiohttp.ClientSession, edge_names: Iterator[str]
) -> None:
    """Two edges, one 300 ms away: chosen by measurement, whatever the regions say first."""
    async with AsyncExitStack() as stack:
        ports: list[int] = []
        for _ in range(2):
            settings = EdgeSettings(next(edge_names), ("127.0.0.1",), Servers(("127.0.0.1:9",)))
            ports.append((await started(settings)).port)
        lines = [
            await stack.enter_async_context(DelayProxy(port, up=line, down=line))
            for port, line in zip(ports, (NEAR, FAR), strict=True)
        ]
        near, far = (
            EdgePoint(name, f"http://127.0.0.1:{line.port}", name)
            for name, line in zip(("near", "far"), lines, strict=True)
        )
        resolver = EdgeResolver(
            [near, far], http, SystemClock(), regions=("far", "near"), timeout_s=10.0
        )
        assert resolver.pick() is far  # nothing is known but the table
        await resolver.measure()
        assert resolver.pick() is near
        await lines[0].stop()
        for _ in range(2):
            await resolver.measure()
        assert resolver.pick() is far
        await lines[0].start()
        await resolver.measure()
        assert resolver.pick() is near


async def test_without_any_edge_the_client_is_told(http: aiohttp.ClientSession) -> None:
    """Not a hang, and not the first of a list of dead ones."""
    async with DelayProxy(9) as nobody:
        gone = EdgePoint("gone", f"http://127.0.0.1:{nobody.port}")
        resolver = EdgeResolver([gone], http, SystemClock())
        for _ in range(2):
            await resolver.measure()
        with pytest.raises(Unavailable) as refused:
            resolver.pick()
        assert refused.value.stable_code == "no_edge"
