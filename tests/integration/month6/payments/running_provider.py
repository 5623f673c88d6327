"""The provider served over real HTTP, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from month6_capstone.payments.provider import ProviderSettings, create
from scalelab.clients.http import HttpClient
from scalelab.errors import ScalelabError
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import serve


@dataclass(frozen=True, slots=True)
class RunningProvider:
    """A served provider: its address and its book."""

    url: str
    book_path: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.book_path.read_text().splitlines()]


@asynccontextmanager
async def provider_on(book_path: Path, *, hang_s: float = 60.0) -> AsyncGenerator[RunningProvider]:
    """Serve the provider until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ProviderSettings(port=port, book_path=book_path, hang_s=hang_s)
    telemetry = build_telemetry(TelemetrySettings("provider"), stream=StringIO())
    stop = asyncio.Event()
    app = create(settings, telemetry)
    serving = asyncio.create_task(serve(app, host=settings.host, port=port, stop=stop, drain_s=2))
    try:
        url = f"http://127.0.0.1:{port}"
        async with HttpClient(url) as http, asyncio.timeout(20):
            while not serving.done():
                try:
                    await http.get("/health/ready")
                except ScalelabError:
                    await asyncio.sleep(0.02)
                    continue
                break
        yield RunningProvider(url, book_path)
    finally:
        stop.set()
        await serving
