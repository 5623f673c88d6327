"""The control plane of a gateway of several processes: what is in force, and how it changes.

On a port that is never public, without authentication, like admin.py. A browser's page cannot
change anything through it: a request that carries an Origin is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header
from prometheus_client import CollectorRegistry

from month1_caching_gateway.gateway.admin import described, routes_router
from month1_caching_gateway.gateway.supervisor import Supervisor
from month1_caching_gateway.gateway.worker_metrics import WorkerMetrics
from scalelab.errors import Forbidden, Unavailable
from scalelab.telemetry import Telemetry
from scalelab.web import PROBLEM_RESPONSES, create_app


def create_control(supervisor: Supervisor, telemetry: Telemetry) -> FastAPI:
    """Routes in force, probes, metrics; reload and replacement.

    Every worker is asked at each scrape; its samples carry `worker`. telemetry: the supervisor's.
    """

    async def some_worker() -> None:
        if not supervisor.serving:
            raise Unavailable("no worker takes requests")

    async def in_force() -> dict[str, Any]:
        return described(supervisor.document.rules) | {"workers": await supervisor.states()}

    async def fetch() -> None:
        metrics.replace(await supervisor.metrics())

    metrics = WorkerMetrics()
    page = CollectorRegistry()
    page.register(metrics)
    return create_app(
        # A registry of its own: the supervisor's samples come labelled, like the workers'.
        telemetry=replace(telemetry, registry=page),
        routers=[routes_router(in_force), _changes_router(supervisor)],
        readiness={"workers": some_worker},
        title="gateway administration",
        before_scrape=fetch,
    )


def _changes_router(supervisor: Supervisor) -> APIRouter:
    router = APIRouter(tags=["changes"], responses=PROBLEM_RESPONSES)

    @router.post("/reload")
    async def reload(  # pyright: ignore[reportUnusedFunction]
        origin: Annotated[str | None, Header()] = None,
    ) -> dict[str, Any]:
        """Read the route file now; 422 with line and reason if it is wrong."""
        _not_from_a_page(origin)
        document = await supervisor.reload()
        return {"revision": document.rules.revision, "routes": len(document.rules.routes)}

    @router.post("/workers/replace")
    async def replace_workers(  # pyright: ignore[reportUnusedFunction]
        origin: Annotated[str | None, Header()] = None,
    ) -> dict[str, Any]:
        """A new process for every worker, one after the other; requests are not dropped."""
        _not_from_a_page(origin)
        await supervisor.replace_all()
        return {"workers": await supervisor.states()}

    return router


def _not_from_a_page(origin: str | None) -> None:
    if origin is not None:
        raise Forbidden("This is not for browsers.", code="origin_refused")
