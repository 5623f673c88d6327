"""Serve routes from a file.

    python -m month1_caching_gateway.gateway --config routes.yaml --port 8080 --admin-port 8081

Every option is also a GATEWAY_… variable (see ProcessSettings); an option goes before it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

import uvloop
from pydantic import ValidationError

from month1_caching_gateway.gateway.process import run_gateway
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from scalelab.errors import ScalelabError
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals


async def _serve(settings: ProcessSettings) -> None:
    stop = asyncio.Event()
    install_stop_signals(stop)
    telemetry = build_telemetry(
        TelemetrySettings(
            "gateway", log_level=settings.log_level, trace_export=settings.trace_export
        )
    )
    try:
        await run_gateway(settings, telemetry, stop)
    finally:
        telemetry.shutdown()


def _options(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m month1_caching_gateway.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", help="the route file (YAML)")
    parser.add_argument("--host", help="where the data plane listens (127.0.0.1)")
    parser.add_argument("--port", type=int, help="of the data plane (8080)")
    parser.add_argument("--admin-port", type=int, help="of probes and metrics (8081)")
    return {name: value for name, value in vars(parser.parse_args(arguments)).items() if value}


def main() -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 2 for what cannot be served."""
    make = cast(Callable[..., ProcessSettings], ProcessSettings)
    try:
        settings = make(**_options(sys.argv[1:]))
        uvloop.run(_serve(settings))
    except (ScalelabError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
