"""The inventory's REST door on a free port, in this process. For experiments and tests."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from month3_messaging.rpc import StockDesk, rest_router
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app
from scalelab.web.serving import serve


@asynccontextmanager
async def serving_rest(desk: StockDesk) -> AsyncGenerator[int, None]:
    """Serve until the block ends; yields the port."""
    telemetry = build_telemetry(TelemetrySettings(service="inventory"), stream=io.StringIO())
    app = create_app(telemetry=telemetry, routers=[rest_router(desk)])
    stop = asyncio.Event()
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def heard(_host: str, port: int) -> None:
        listening.set_result(port)

    serving = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, stop=stop, on_listening=heard)
    )
    try:
        await asyncio.wait([serving, listening], return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            await serving  # raises why it did not start
        yield listening.result()
    finally:
        stop.set()
        await serving
        telemetry.shutdown()
