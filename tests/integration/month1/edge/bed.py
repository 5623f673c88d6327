"""A real edge in front of a real origin, and a raw or TLS client."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import aiohttp.web

from month1_caching_gateway.edge import EdgeSettings, edge_config, edge_files
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Nginx

DEADLINE_S = 30.0


@dataclass
class Origin:
    """An HTTP server that counts. headers and body: of its next answers; down: answers 503."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"first"
    status: int = 200
    seen: list[str] = field(default_factory=list)
    seen_headers: list[dict[str, str]] = field(default_factory=list)
    gate: asyncio.Event | None = None
    port: int = 0

    async def handle(self, request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        self.seen.append(f"{request.method} {request.path_qs}")
        self.seen_headers.append({name.lower(): value for name, value in request.headers.items()})
        body, headers = self.body, dict(self.headers)
        if self.gate is not None:
            await self.gate.wait()
        tag = headers.get("ETag")
        if tag is not None and request.headers.get("If-None-Match") == tag:
            return aiohttp.web.Response(status=304, headers=headers)
        return aiohttp.web.Response(status=self.status, body=body, headers=headers)


@asynccontextmanager
async def origin(port: int = 0) -> AsyncIterator[Origin]:
    """A running origin."""
    made = Origin()
    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(made.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


def start_edge(runtime: Runtime, settings: EdgeSettings) -> Nginx:
    """An nginx of these settings; blocking."""
    server = Nginx(
        edge_config(settings),
        f"edge-{settings.name}",
        files=edge_files(settings),
        ready_path="/edge/health",
    )
    runtime.start(server)
    return server


def records(server: Nginx) -> list[dict[str, object]]:
    """The request log of an edge."""
    text = (server.folder / "access.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def trusting(certificate: str) -> ssl.SSLContext:
    """A client that trusts one authority and nobody else."""
    return ssl.create_default_context(cadata=certificate)


async def until(claim: Callable[[], bool], what: str) -> None:
    """Poll until `claim` holds; fail after the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not claim():  # noqa: ASYNC110 - what is awaited happens in another process
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise AssertionError(f"not within {DEADLINE_S} s: {what}") from error


def cache_folder(server: Nginx) -> Path:
    """Where an edge keeps its answers."""
    return server.folder / "cache"
