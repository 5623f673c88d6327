"""The operators' side: probes, metrics, spans, configuration mistakes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from month1_caching_gateway.gateway import (
    Endpoint,
    Gateway,
    GatewaySettings,
    Route,
    Upstream,
    create_admin,
)
from month1_caching_gateway.ratelimit import Limiter, MemoryStore, Policy
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, Unavailable
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import serve
from tests.integration.month1.gateway.harness import OneUser, client, peer, running


async def test_the_admin_port_tells_readiness_and_metrics() -> None:
    """Ready while the gateway listens; the counters of requests are in /metrics."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.ask("GET", "/")
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stop = asyncio.Event()
        admin = asyncio.create_task(
            serve(
                create_admin(gateway.gateway, gateway.telemetry),
                host="127.0.0.1",
                port=0,
                stop=stop,
                on_listening=lambda _host, port: listening.set_result(port),
            )
        )
        async with client(await listening) as inside:
            for probe in ("live", "ready", "startup"):
                assert (await inside.ask("GET", f"/health/{probe}")).status == 200
            text = (await inside.ask("GET", "/metrics")).body.decode()
            assert 'gateway_requests_total{method="GET",route="/*",status="200"} 1.0' in text
            assert 'gateway_breaker_phase{upstream="app"} 0.0' in text
            assert "gateway_request_duration_seconds_bucket" in text
        stop.set()
        await admin


@pytest.mark.parametrize(("ratio", "spans"), [(1.0, 3), (0.0, 1)])
async def test_sampled_requests_leave_a_span_and_others_none(
    tmp_path: Path, ratio: float, spans: int
) -> None:
    """Two new traces by the coin, one continued whose caller decided for it."""
    out = tmp_path / "spans.jsonl"
    settings = GatewaySettings(sweep_s=0.01, trace_ratio=ratio)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        peer() as app,
        running([app], settings=settings, trace_export=f"file:{out}") as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/")
        await http.ask("GET", "/")
        await http.ask("GET", "/", traceparent=parent)
        sampled = [int((seen.header("traceparent") or "0")[-2:], 16) & 1 for seen in app.seen]
        assert sampled == ([1, 1, 1] if ratio else [0, 0, 1])
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(written) == spans
    assert "0af7651916cd43dd8448eb211c80319c" in json.dumps(written[-1])
    assert "GET /*" in json.dumps(written[-1])


def build(routes: list[Route], rates: dict[str, Policy] | None = None) -> Gateway:
    clock = SystemClock()
    return Gateway(
        GatewaySettings(),
        routes,
        [Upstream("app", (Endpoint("127.0.0.1", 1),))],
        OneUser(),
        Limiter(MemoryStore(clock), clock),
        build_telemetry(TelemetrySettings("gateway")),
        clock,
        rates=rates,
    )


@pytest.mark.parametrize(
    "route",
    [
        Route("nowhere", prefix="/"),
        Route("app", prefix="/", rate="nothing"),
        Route("app", prefix="/", rate="small", cost=3.0),
    ],
    ids=["upstream", "rate", "cost"],
)
async def test_a_route_that_names_what_does_not_exist_is_refused_at_start(route: Route) -> None:
    """Not at the first request."""
    with pytest.raises(InvalidInput):
        build([route], {"small": Policy(2, 1)})


async def test_a_port_in_use_is_told_as_such() -> None:
    """Unavailable with a code, no bare OSError."""
    async with peer() as app:
        gateway = build([Route("app", prefix="/")])
        with pytest.raises(Unavailable) as caught:
            await gateway.start("127.0.0.1", app.port)
        assert caught.value.stable_code == "address_in_use"
        await gateway.stop()
