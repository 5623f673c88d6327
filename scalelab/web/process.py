"""A service as a process of its own: loop, collector, telemetry, stop signals, drain.

For the `__main__` of a service; a process that runs several services composes the parts itself.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol, TypeVar

from fastapi import FastAPI

from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web.serving import install_stop_signals, serve


class ServiceSettings(Protocol):
    """What every process is told, beside its own settings."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def trace_export(self) -> str: ...
    @property
    def log_level(self) -> str: ...


S = TypeVar("S", bound=ServiceSettings)


def run_loop(main: Coroutine[object, object, None]) -> None:
    """Run to the end on uvloop, or on the standard loop where uvloop is not built."""
    try:
        import uvloop
    except ImportError:  # not built for this platform: the standard loop is slower, not different
        asyncio.run(main)
    else:
        uvloop.run(main)


def calm_collector() -> None:
    """Collect cycles a fourteenth as often as Python would.

    Requests make few cycles but many objects: by default their number alone starts a collection
    every few requests, each of which walks what the last ones left alive. Bounded, because the
    young generation cannot grow beyond the threshold.
    """
    gc.set_threshold(10_000, 20, 20)


def run_service(name: str, settings: S, create: Callable[[S, Telemetry], FastAPI]) -> None:
    """Serve the app of one service until SIGTERM or SIGINT, then drain it.

    Raises Unavailable if the port is taken, and what `create` raises.
    """
    calm_collector()
    run_loop(_serve(name, settings, create))


def service_command(
    module: str,
    name: str,
    settings: Callable[[], S],
    create: Callable[[S, Telemetry], FastAPI],
    prepare: Callable[[S], None],
) -> int:
    """`python -m MODULE [prepare]`: serve until a stop signal, or make what the service needs.

    settings: read from variables, once the command line is known to be right. Returns the exit
    code: 0 after a clean end, 2 for a wrong command line, which standard error explains.
    """
    arguments: Sequence[str] = sys.argv[1:]
    if arguments not in ([], ["prepare"]):
        sys.stderr.write(f"usage: python -m {module} [prepare]\n")
        return 2
    if arguments:
        prepare(settings())
    else:
        run_service(name, settings(), create)
    return 0


async def _serve(name: str, settings: S, create: Callable[[S, Telemetry], FastAPI]) -> None:
    telemetry = build_telemetry(
        TelemetrySettings(name, log_level=settings.log_level, trace_export=settings.trace_export)
    )
    stop = asyncio.Event()
    install_stop_signals(stop)
    try:
        app = create(settings, telemetry)
        await serve(app, host=settings.host, port=settings.port, stop=stop)
    finally:
        telemetry.shutdown()
