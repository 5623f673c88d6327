"""`python -m month1_caching_gateway.issuer`: the issuer as a process, until SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from month1_caching_gateway.issuer.service import IssuerSettings, create
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals, serve


async def _run() -> None:
    settings = cast(Callable[[], IssuerSettings], IssuerSettings)()
    telemetry = build_telemetry(
        TelemetrySettings(
            "issuer", log_level=settings.log_level, trace_export=settings.trace_export
        )
    )
    stop = asyncio.Event()
    install_stop_signals(stop)
    try:
        app = create(settings, telemetry)
        await serve(app, host=settings.host, port=settings.port, stop=stop)
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    asyncio.run(_run())
