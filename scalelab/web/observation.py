"""One pass around every request: its id, its span, its metrics, its line in the access log.

Four concerns in one middleware on purpose: each needs the same wrapped `send`, and a layer of
its own costs about 4 µs of CPU. Health and metrics endpoints get an id and nothing else.

Guarantee: an exception no handler knew ends here as a 500 problem, with its traceback in the
log and nothing of it in the answer.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from time import perf_counter

from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scalelab.telemetry import Telemetry, parse, request_id_var
from scalelab.web.lifecycle import Lifecycle
from scalelab.web.limits import ClientGone
from scalelab.web.metrics import RequestMetrics
from scalelab.web.problem import INTERNAL, Problem
from scalelab.web.problem_response import REQUEST_ID, send_problem

USER = "scalelab.user"
"""Scope key under which authentication leaves the subject for the access log."""

CLIENT_CLOSED = 499
"""Status in log and metrics when the caller hung up first; never sent."""

_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_QUIET = frozenset(
    {"/health/live", "/health/ready", "/health/startup", "/metrics", "/openapi.json"}
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SHUTTING_DOWN = Problem(
    503, "shutting_down", "The service is stopping. Try again.", headers={"retry-after": "1"}
)


class Exchange:
    """What is known about one request while it is answered."""

    __slots__ = ("_send", "request_id", "started_at_s", "status")

    def __init__(self, request_id: bytes, send: Send) -> None:
        self.request_id = request_id
        self.started_at_s = perf_counter()
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id)]
        await self._send(message)


class ObservationMiddleware:
    """Pure ASGI, outermost of ours. Also counts requests in flight for the drain."""

    def __init__(
        self, app: ASGIApp, telemetry: Telemetry, metrics: RequestMetrics, lifecycle: Lifecycle
    ) -> None:
        self._app = app
        self._telemetry = telemetry
        self._metrics = metrics
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, traceparent, tracestate = _incoming(scope)
        exchange = Exchange(request_id, send)
        scope[REQUEST_ID] = request_id.decode("ascii")
        if scope["path"] in _QUIET:
            await self._answer(scope, receive, exchange)
            return
        span = self._telemetry.start_server_span(scope["method"], parse(traceparent, tracestate))
        id_token = request_id_var.set(scope[REQUEST_ID])
        span_token = attach(set_span_in_context(span))
        task = self._lifecycle.enter()
        self._metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, exchange)
        finally:
            self._metrics.in_flight.dec()
            self._lifecycle.leave(task)
            self._report(scope, exchange, span)
            detach(span_token)
            request_id_var.reset(id_token)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        try:
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            exchange.status = exchange.status or CLIENT_CLOSED
        except asyncio.CancelledError:
            if not self._lifecycle.aborting or exchange.status:
                raise
            # The drain is over: cancelled by us, so the caller is owed a reason.
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            await send_problem(_SHUTTING_DOWN, scope, exchange.send)
        except Exception as error:
            self._telemetry.log.error("unhandled exception", exc_info=error)
            if exchange.status:
                raise  # half an answer is out: only a broken connection says so
            await send_problem(INTERNAL, scope, exchange.send)

    def _report(self, scope: Scope, exchange: Exchange, span: Span) -> None:
        duration_s = perf_counter() - exchange.started_at_s
        status = exchange.status or CLIENT_CLOSED
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = route_template(scope)
        context = span.get_span_context()
        trace_id = f"{context.trace_id:032x}"
        sampled = span.is_recording()
        self._metrics.observe(method, route, status, duration_s, trace_id if sampled else None)
        if sampled:
            span.update_name(f"{method} {route}")
            span.set_attributes(
                {
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": status,
                }
            )
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.end()
        self._telemetry.log.info(
            "request",
            method=method,
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 3),
            user=scope.get(USER),
        )


def route_template(scope: Scope) -> str:
    """The template that matched ("/orders/{order_id}"), or "unmatched"; bounded as a label."""
    context = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    template: object = getattr(context, "path_format", None)
    return template if isinstance(template, str) else "unmatched"


def _incoming(scope: Scope) -> tuple[bytes, str | None, str | None]:
    """The request's id (its own if sane, else a new one), traceparent and tracestate."""
    request_id, traceparent, tracestate = b"", None, None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            request_id = value
        elif name == b"traceparent":
            # Sent twice, it cannot be trusted: join makes it malformed.
            text = value.decode("latin-1")
            traceparent = text if traceparent is None else f"{traceparent},{text}"
        elif name == b"tracestate":
            tracestate = value.decode("latin-1")
    return request_id or secrets.token_hex(16).encode(), traceparent, tracestate
