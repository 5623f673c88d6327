"""How every service is built: one factory, pure ASGI middleware, problems, probes, metrics."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from scalelab.clock import Clock, SystemClock
from scalelab.telemetry import Telemetry
from scalelab.web.docs_page import docs_routes
from scalelab.web.health import Readiness, health_routes
from scalelab.web.lifecycle import Lifecycle
from scalelab.web.limits import Limits, LimitsMiddleware
from scalelab.web.metrics import RequestMetrics
from scalelab.web.observation import ObservationMiddleware
from scalelab.web.openapi import document_problems
from scalelab.web.problem_response import install_problem_handlers

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def create_app(
    *,
    telemetry: Telemetry,
    routers: Sequence[APIRouter],
    lifespan: Lifespan | None = None,
    readiness: Mapping[str, Callable[[], Awaitable[None]]] = _NOTHING,
    limits: Limits = Limits(),  # noqa: B008 - frozen, shared by intent
    title: str | None = None,
    statuses: Mapping[str, int] = _NOTHING,
    clock: Clock | None = None,
    before_scrape: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """A service from its routers, with everything a process owes its operators.

    lifespan: async context manager around the time the app serves. readiness: name → check that
    raises when the dependency is away. statuses: status of the service's own error codes, where
    it differs from that of their class ("card_declined": 402). before_scrape: awaited before the
    metrics are read, for those that must be fetched. One telemetry builds one app: its registry
    takes each metric once.
    """
    lifecycle = Lifecycle()
    metrics = RequestMetrics(telemetry.registry, telemetry.service)
    app = FastAPI(
        title=title or telemetry.service,
        docs_url=None,  # it would load its script from elsewhere; see docs_page
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(lifecycle, metrics, lifespan),
        middleware=[
            Middleware(
                ObservationMiddleware, telemetry=telemetry, metrics=metrics, lifecycle=lifecycle
            ),
            Middleware(LimitsMiddleware, limits=limits),
        ],
        # The framework's own tracing would follow global providers; ours stands above.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.lifecycle = lifecycle
    install_problem_handlers(app, statuses, telemetry.log)
    probes = Readiness(readiness, clock or SystemClock(), telemetry.log)
    app.router.routes.extend(health_routes(lifecycle, probes, telemetry.registry, before_scrape))
    app.router.routes.extend(docs_routes())
    for router in routers:
        app.include_router(router)
    document_problems(app)
    return app


def lifecycle_of(app: FastAPI) -> Lifecycle:
    """The lifecycle of an app made by `create_app`."""
    lifecycle: Lifecycle = app.state.lifecycle
    return lifecycle


def _lifespan(lifecycle: Lifecycle, metrics: RequestMetrics, inner: Lifespan | None) -> Lifespan:
    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncGenerator[Any, None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(metrics.watching_loop_lag())
                state = await stack.enter_async_context(inner(app)) if inner else None
            except BaseException as error:
                lifecycle.startup_error = error
                raise
            lifecycle.started = True
            try:
                yield state
            finally:
                lifecycle.started = False

    return run
