"""The gateway's own endpoints, on a port of their own that is never the public one.

/health/live, /health/ready, /health/startup and /metrics, made by the factory of every service.
Serve it with `scalelab.web.serve(app, host="127.0.0.1", ...)`: it has no authentication.
"""

from __future__ import annotations

from fastapi import FastAPI

from month1_caching_gateway.gateway.gateway import Gateway
from scalelab.errors import Unavailable
from scalelab.telemetry import Telemetry
from scalelab.web import create_app


def create_admin(gateway: Gateway, telemetry: Telemetry) -> FastAPI:
    """Probes and metrics of `gateway`. telemetry: the one the gateway reports through.

    ready says no before `Gateway.start` and from the moment `Gateway.stop` is called.
    """

    async def listening() -> None:
        if not gateway.serving:
            raise Unavailable("the gateway does not take requests")

    return create_app(
        telemetry=telemetry,
        routers=[],
        readiness={"listener": listening},
        title="gateway administration",
    )
