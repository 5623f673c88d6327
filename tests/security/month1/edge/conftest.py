"""nginx in front of our gateway in front of a server that counts: one chain for a module."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from month1_caching_gateway.edge import ClientLimits, EdgeSettings, Servers
from month1_caching_gateway.gateway import GatewaySettings
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx
from tests.integration.month1.edge.bed import start_edge
from tests.integration.month1.gateway.harness import Peer, Running, peer, running


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop for the module: the chain lives in it."""
    return "asyncio", {"use_uvloop": False}


@dataclass
class Chain:
    """edge → gateway → app; app.seen is what the last parser understood."""

    edge: Nginx
    gateway: Running
    app: Peer

    def cleared(self) -> Chain:
        self.app.seen.clear()
        self.app.bad_streams = 0
        return self


@pytest.fixture(scope="module")
async def whole_chain(
    runtime: Runtime, request: pytest.FixtureRequest, anyio_backend: object
) -> AsyncIterator[Chain]:
    """Started once, with the LIMITS of the module; tests get it through `chain`."""
    settings = GatewaySettings(
        sweep_s=0.05, body_window_s=1.0, trusted_proxies=frozenset({"127.0.0.1"})
    )
    name = request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_").replace("_", "-")
    async with peer() as app, running([app], settings=settings) as gateway:
        limits: ClientLimits = getattr(request.module, "LIMITS", ClientLimits())
        servers = Servers((f"127.0.0.1:{gateway.port}",), max_fails=0)
        edge = EdgeSettings(name, ("127.0.0.1", "localhost"), servers, limits=limits)
        server = await asyncio.to_thread(start_edge, runtime, edge)
        yield Chain(server, gateway, app)
        await asyncio.to_thread(runtime.stop, server.name)


@pytest.fixture
def chain(whole_chain: Chain) -> Chain:
    """The chain, nothing seen yet."""
    return whole_chain.cleared()
