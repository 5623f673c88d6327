"""The gateway's own endpoints, on a port of their own that is never the public one.

/routes, /health/live, /health/ready, /health/startup and /metrics, made by the factory of every
service. Serve it with `scalelab.web.serve(app, host="127.0.0.1", ...)`: it has no authentication.
A gateway of several processes has more of them: control.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic_core import to_jsonable_python

from month1_caching_gateway.gateway.gateway import Gateway
from month1_caching_gateway.gateway.snapshot import Rules
from scalelab.errors import Unavailable
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


def create_admin(gateway: Gateway, telemetry: Telemetry) -> FastAPI:
    """Routes, probes and metrics of a gateway in this process.

    telemetry: the one the gateway reports through. ready says no before `Gateway.start` and from
    the moment `Gateway.stop` is called.
    """

    async def listening() -> None:
        if not gateway.serving:
            raise Unavailable("the gateway does not take requests")

    async def in_force() -> dict[str, Any]:
        return described(gateway.rules)

    return create_app(
        telemetry=telemetry,
        routers=[routes_router(in_force)],
        readiness={"listener": listening},
        title="gateway administration",
    )


def described(rules: Rules) -> dict[str, Any]:
    """Rules as JSON: what the gateway understood, not what was written."""
    return {
        "revision": rules.revision,
        "routes": to_jsonable_python(rules.routes),
        "upstreams": to_jsonable_python(rules.upstreams),
        "rates": to_jsonable_python(dict(rules.rates)),
    }


def routes_router(in_force: Callable[[], Awaitable[dict[str, Any]]]) -> APIRouter:
    router = APIRouter(tags=["routes"])

    @router.get("/routes")
    async def routes() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        """What is in force, and its revision."""
        return await in_force()

    return router
