"""`python -m month1_caching_gateway.edge`: the purge service as a process, until SIGTERM."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from month1_caching_gateway.edge.purge_service import PurgeSettings, run_purge
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals


async def _run() -> None:
    settings = cast(Callable[[], PurgeSettings], PurgeSettings)()
    telemetry = build_telemetry(
        TelemetrySettings("purge", log_level=settings.log_level, trace_export=settings.trace_export)
    )
    stop = asyncio.Event()
    install_stop_signals(stop)
    try:
        await run_purge(settings, telemetry, stop)
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    asyncio.run(_run())
