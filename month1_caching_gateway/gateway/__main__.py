"""Serve routes from a file, by several processes on one port.

    python -m month1_caching_gateway.gateway --config routes.yaml --port 8080 --workers 2

Every option is also a GATEWAY_… variable (see ProcessSettings); an option goes before it.
SIGHUP reads the routes again, SIGUSR2 replaces every worker, SIGTERM drains.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvloop
from pydantic import ValidationError

from month1_caching_gateway.gateway.control import create_control
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from month1_caching_gateway.gateway.route_file import RouteFile
from month1_caching_gateway.gateway.supervisor import Supervisor, supervised
from scalelab.clock import SystemClock
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log, TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals, serve


async def _serve(settings: ProcessSettings) -> None:
    stop = asyncio.Event()
    install_stop_signals(stop)
    telemetry = build_telemetry(TelemetrySettings("gateway", log_level=settings.log_level))
    log = telemetry.log
    route_file = RouteFile(settings.config, telemetry.registry, log)
    admin_stop = asyncio.Event()
    async with (
        asyncio.TaskGroup() as group,
        supervised(settings, route_file, telemetry.registry, log, SystemClock()) as supervisor,
    ):
        _on_signals(supervisor, group, log)

        def listening(host: str, port: int) -> None:
            log.info(
                "gateway serves",
                port=supervisor.port,
                admin=f"{host}:{port}",
                workers=settings.workers,
            )

        admin = group.create_task(
            serve(
                create_control(supervisor, telemetry),
                host=settings.admin_host,
                port=settings.admin_port,
                stop=admin_stop,
                on_listening=listening,
            ),
            name="admin",
        )
        stopping = group.create_task(stop.wait(), name="stop")
        await asyncio.wait((admin, stopping), return_when=asyncio.FIRST_COMPLETED)
        await supervisor.stop()  # probes and metrics answer until the last worker has drained
        stop.set()
        admin_stop.set()


def _on_signals(supervisor: Supervisor, group: asyncio.TaskGroup, log: Log) -> None:
    async def quietly(work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except ScalelabError as error:
            log.error("a signal's work failed", reason=str(error))

    loop = asyncio.get_running_loop()
    for number, work in (
        (signal.SIGHUP, supervisor.reload),
        (signal.SIGUSR2, supervisor.replace_all),
    ):
        loop.add_signal_handler(number, lambda work=work: group.create_task(quietly(work)))


def _options(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m month1_caching_gateway.gateway",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", help="the route file (YAML)")
    parser.add_argument("--host", help="where the data plane listens (127.0.0.1)")
    parser.add_argument("--port", type=int, help="of the data plane (8080)")
    parser.add_argument("--admin-port", type=int, help="of routes, probes and metrics (8081)")
    parser.add_argument("--workers", type=int, help="processes (1)")
    given = vars(parser.parse_args(arguments))
    return {name: value for name, value in given.items() if value is not None}


def main() -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 2 for what cannot be served."""
    make = cast(Callable[..., ProcessSettings], ProcessSettings)
    try:
        settings = make(**_options(sys.argv[1:]))
        uvloop.run(_serve(settings))
    except (ScalelabError, ValidationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except BaseExceptionGroup as group:
        known, other = group.split((ScalelabError, ValidationError))
        if other is not None or known is None:
            raise
        sys.stderr.write(f"{known.exceptions[0]}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
