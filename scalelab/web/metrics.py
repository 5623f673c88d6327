"""RED metrics of an app (rate, errors, duration) and the saturation of its event loop.

Label children are looked up once per (method, route, status class) and kept: the label sets are
bounded because routes are templates and unknown methods share one name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LAG_INTERVAL_S = 0.5


class RequestMetrics:
    """scalelab_http_requests_total, scalelab_http_request_seconds, scalelab_http_in_flight,
    scalelab_event_loop_lag_seconds; each with the label `service`."""

    def __init__(self, registry: CollectorRegistry, service: str) -> None:
        self._service = service
        self._requests = Counter(
            "scalelab_http_requests",
            "Requests answered, by route template and class of status.",
            ["service", "method", "route", "status_class"],
            registry=registry,
        )
        self._seconds = Histogram(
            "scalelab_http_request_seconds",
            "Time from the request's head to the end of the answer, seconds.",
            ["service", "method", "route"],
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.in_flight = Gauge(
            "scalelab_http_in_flight", "Requests being answered.", ["service"], registry=registry
        ).labels(service)
        self._lag = Gauge(
            "scalelab_event_loop_lag_seconds",
            "How much later than planned the event loop ran its last timer, seconds.",
            ["service"],
            registry=registry,
        ).labels(service)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(
        self, method: str, route: str, status: int, duration_s: float, trace_id: str | None
    ) -> None:
        """Count one answer. trace_id: of a sampled trace; becomes the bucket's exemplar."""
        key = (method, route, status // 100)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                self._requests.labels(self._service, method, route, f"{status // 100}xx"),
                self._seconds.labels(self._service, method, route),
            )
        children[0].inc()
        children[1].observe(duration_s, {"trace_id": trace_id} if trace_id else None)

    @asynccontextmanager
    async def watching_loop_lag(self) -> AsyncGenerator[None, None]:
        """Measure the event loop's lag twice a second while inside."""
        task = asyncio.create_task(self._watch(), name="event-loop-lag")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            planned_s = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lag.set(max(0.0, loop.time() - planned_s))
