"""The inventory's REST door on a free port, in this process. For experiments and tests."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from month3_messaging.experiments.app_serving import serving
from month3_messaging.rpc import StockDesk, rest_router
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app


@asynccontextmanager
async def serving_rest(desk: StockDesk) -> AsyncGenerator[int, None]:
    """Serve until the block ends; yields the port."""
    telemetry = build_telemetry(TelemetrySettings(service="inventory"), stream=io.StringIO())
    app = create_app(telemetry=telemetry, routers=[rest_router(desk)])
    try:
        async with serving(app) as port:
            yield port
    finally:
        telemetry.shutdown()
