"""Start one process of the shop, or all of them in one.

    python -m month6_capstone orders        one process; its settings come from ORDERS_… variables
    python -m month6_capstone monolith      all of them in one process, same variables, same code

Prefixes keep the variables of different processes apart, which is what makes the monolith a
deployment choice and not another program.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from fastapi import FastAPI

from month6_capstone.topology import SERVICES
from scalelab.errors import InvalidInput
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals, serve
from scalelab.web.process import ServiceSettings


@dataclass(frozen=True, slots=True)
class Process:
    """Where a process's code is: module, settings class; the factory is called `create`."""

    module: str
    settings: str


PROCESSES = {
    "provider": Process("month6_capstone.payments.provider", "ProviderSettings"),
    "identity": Process("month6_capstone.identity.service", "IdentitySettings"),
    "catalog": Process("month6_capstone.catalog.service", "CatalogSettings"),
    "inventory": Process("month6_capstone.inventory.service", "InventorySettings"),
    "payments": Process("month6_capstone.payments.service", "PaymentsSettings"),
    "orders": Process("month6_capstone.orders.service", "OrdersSettings"),
    "orders-worker": Process("month6_capstone.orders.worker", "OrdersWorkerSettings"),
}


def settings_of(name: str) -> ServiceSettings:
    """The settings of a process, read from its environment variables.

    Raises pydantic's ValidationError naming every variable that is missing or wrong.
    """
    process = PROCESSES[name]
    module = importlib.import_module(process.module)
    return cast(Callable[[], ServiceSettings], getattr(module, process.settings))()


def app_of(name: str, settings: ServiceSettings, telemetry: Telemetry) -> FastAPI:
    """The ASGI application of a process; its background tasks live in its lifespan."""
    module = importlib.import_module(PROCESSES[name].module)
    create = cast(Callable[[ServiceSettings, Telemetry], FastAPI], module.create)
    return create(settings, telemetry)


def telemetry_of(name: str, settings: ServiceSettings) -> Telemetry:
    """The process's own registry, tracer and log."""
    return build_telemetry(
        TelemetrySettings(
            service=name, log_level=settings.log_level, trace_export=settings.trace_export
        )
    )


async def run_process(name: str, stop: asyncio.Event) -> None:
    """Run one process until `stop` is set, then drain it."""
    if name == "gateway":
        from month6_capstone.gateway.service import GatewayProcessSettings, run_gateway

        gateway_settings = cast(Callable[[], GatewayProcessSettings], GatewayProcessSettings)()
        telemetry = telemetry_of(name, gateway_settings)
        try:
            await run_gateway(gateway_settings, telemetry, stop)
        finally:
            telemetry.shutdown()
        return
    settings = settings_of(name)
    telemetry = telemetry_of(name, settings)
    try:
        app = app_of(name, settings, telemetry)
        await serve(app, host=settings.host, port=settings.port, stop=stop)
    finally:
        telemetry.shutdown()


async def run_processes(names: Sequence[str]) -> None:
    """Run the named processes in this one until SIGTERM or SIGINT; one's failure ends all."""
    stop = asyncio.Event()
    install_stop_signals(stop)
    try:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(_run_or_stop(name, stop), name=name)
    finally:
        stop.set()


async def _run_or_stop(name: str, stop: asyncio.Event) -> None:
    try:
        await run_process(name, stop)
    finally:
        stop.set()


def names_for(target: str) -> tuple[str, ...]:
    """The processes behind a command-line word. Raises InvalidInput for an unknown one."""
    if target == "monolith":
        return (*SERVICES, "gateway")
    if target in PROCESSES or target == "gateway":
        return (target,)
    known = ", ".join([*PROCESSES, "gateway", "monolith"])
    raise InvalidInput(f"no process is called {target}; there are: {known}", field="process")
