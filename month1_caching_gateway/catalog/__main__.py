"""`python -m month1_caching_gateway.catalog [prepare]`: one replica, or its tables and first rows.

Settings come from CATALOG_… variables. A replica keeps nothing of its own: any number of them
serve one database and one cache.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import cast

from month1_caching_gateway.catalog.service import CatalogSettings, create, prepare
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals, serve


async def _serve(settings: CatalogSettings) -> None:
    telemetry = build_telemetry(
        TelemetrySettings(
            "catalog", log_level=settings.log_level, trace_export=settings.trace_export
        )
    )
    stop = asyncio.Event()
    install_stop_signals(stop)
    try:
        app = create(settings, telemetry)
        await serve(app, host=settings.host, port=settings.port, stop=stop)
    finally:
        telemetry.shutdown()


def _run(main: Coroutine[object, object, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not built for this platform: the standard loop is slower, not different
        asyncio.run(main)
    else:
        uvloop.run(main)


def main(arguments: list[str]) -> int:
    """Exit code 0 after a clean stop, 2 for a wrong command line."""
    if arguments not in ([], ["prepare"]):
        sys.stderr.write("usage: python -m month1_caching_gateway.catalog [prepare]\n")
        return 2
    settings = cast(Callable[[], CatalogSettings], CatalogSettings)()
    if arguments:
        asyncio.run(prepare(settings))
        return 0
    # Requests make few cycles but many objects; by default their number alone starts collections.
    gc.set_threshold(10_000, 20, 20)
    _run(_serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
