"""An app on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import Limits, create_app, serve


@dataclass
class Served:
    """Where it listens, the event that stops it, and the task that ends when it has stopped."""

    app: FastAPI
    port: int
    stop: asyncio.Event
    task: asyncio.Task[None]
    log: io.StringIO

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def served(
    *routers: object, limits: Limits | None = None, drain_s: float = 10.0, **options: object
) -> AsyncGenerator[Served, None]:
    """Serve these routers until the block ends, or until `stop` is set inside it."""
    log = io.StringIO()
    telemetry = build_telemetry(TelemetrySettings("test"), stream=log)
    app = create_app(
        telemetry=telemetry,
        routers=routers,  # pyright: ignore[reportArgumentType]
        limits=limits or Limits(),
        **options,  # pyright: ignore[reportArgumentType]
    )
    stop = asyncio.Event()
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            stop=stop,
            drain_s=drain_s,
            on_listening=lambda _host, port: listening.set_result(port),
        )
    )
    done, _ = await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    if task in done:
        await task
    try:
        yield Served(app, await listening, stop, task, log)
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()
