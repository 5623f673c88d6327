"""Probes and metrics: /health/live, /health/ready, /health/startup, /metrics.

live: the event loop turns. startup: the lifespan is up. ready: started, not draining, and every
check passes. Checks run side by side under one deadline, and their result is kept for a second,
so that probes cannot load the dependencies they ask about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scalelab.clock import Clock
from scalelab.telemetry import Log
from scalelab.web.lifecycle import Lifecycle

Check = Callable[[], Awaitable[None]]
"""Returns if the dependency answers, raises otherwise."""

CHECK_DEADLINE_S = 1.0
CACHE_S = 1.0

_NO_STORE = {"cache-control": "no-store"}


class Readiness:
    """Runs the checks, at most once a second, whoever asks and however often."""

    def __init__(self, checks: Mapping[str, Check], clock: Clock, log: Log) -> None:
        self._checks = dict(checks)
        self._clock = clock
        self._log = log
        self._lock = asyncio.Lock()
        self._results: dict[str, str] = {}
        self._checked_at_s: float | None = None

    async def results(self) -> dict[str, str]:
        """Name → "ok" | "failed" | "timeout"; at most CACHE_S old."""
        async with self._lock:
            now_s = self._clock.monotonic_s()
            if self._checked_at_s is None or now_s - self._checked_at_s >= CACHE_S:
                outcomes = await asyncio.gather(*map(self._run, self._checks))
                self._results = dict(zip(self._checks, outcomes, strict=True))
                self._checked_at_s = self._clock.monotonic_s()
            return self._results

    async def _run(self, name: str) -> str:
        try:
            async with asyncio.timeout(CHECK_DEADLINE_S):
                await self._checks[name]()
        except TimeoutError:
            return "timeout"
        except Exception as error:  # noqa: BLE001 - whatever a check raises means "not ready"
            self._log.warning("readiness check failed", check=name, error=repr(error))
            return "failed"
        return "ok"


def health_routes(
    lifecycle: Lifecycle,
    readiness: Readiness,
    registry: CollectorRegistry,
    before_scrape: Callable[[], Awaitable[None]] | None = None,
) -> list[Route]:
    """The four operational routes; they stand outside the API's schema."""

    async def live(_request: Request) -> Response:
        return _answer("live", ok=True)

    async def startup(_request: Request) -> Response:
        return _answer("started" if lifecycle.started else "starting", ok=lifecycle.started)

    async def ready(_request: Request) -> Response:
        if lifecycle.draining.is_set():
            return _answer("draining", ok=False)
        if not lifecycle.started:
            return _answer("starting", ok=False)
        checks = await readiness.results()
        ok = all(result == "ok" for result in checks.values())
        return _answer("ready" if ok else "not_ready", ok=ok, checks=checks)

    async def metrics(request: Request) -> Response:
        if before_scrape is not None:
            await before_scrape()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type, headers=_NO_STORE)

    return [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/health/startup", startup),
        Route("/metrics", metrics),
    ]


def _answer(status: str, *, ok: bool, checks: Mapping[str, str] | None = None) -> Response:
    body: dict[str, object] = {"status": status}
    if checks is not None:
        body["checks"] = dict(checks)
    return JSONResponse(body, 200 if ok else 503, headers=_NO_STORE)
