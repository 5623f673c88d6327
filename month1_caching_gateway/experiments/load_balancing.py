"""One of four backends is slow, then one is dead: which pick still sends requests to it?

The same open-loop load goes through the gateway with each of its policies, and through nginx. The
backends count what they were sent, so the claims are about counts; the tail of the latencies
follows from them. Then one backend is frozen: its sockets take requests and nothing answers. What
it had been sent is read after it was thawed, once without any checks and once with active checks
and ejection.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from month1_caching_gateway.balancing import Budget, HealthPolicy, OutlierPolicy
from month1_caching_gateway.experiments.balancing_load import Outcome, ask, open_loop
from month1_caching_gateway.gateway import (
    Endpoint,
    Gateway,
    GatewaySettings,
    Retries,
    Route,
    Upstream,
)
from month1_caching_gateway.ratelimit import Limiter, MemoryStore
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Nginx
from scalelab.lab.servers.service import Service, ServiceSpec
from scalelab.security import SigningKey, StaticJwks, TokenVerifier, jwks
from scalelab.telemetry import TelemetrySettings, build_telemetry

BACKENDS = 4
FAST_S, SLOW_S = 0.004, 0.5
RATE_PER_S = 250.0
KEYS = 1000
FROZEN_REQUESTS = 40
TRY_S = 0.25
"""A try is late after half of the slow backend's time; the fast ones need a fraction of it."""
_OVER_S = 30.0

_EJECTING = OutlierPolicy(consecutive=5, base_ejection_s=300.0, max_ejection_s=300.0)
_RETRIES = Retries(limit=1, per_try_s=TRY_S, budget=Budget(burst=100.0))
_PLAIN: dict[str, Any] = {"outlier": None, "retries": Retries(limit=0)}
POLICIES: dict[str, dict[str, Any]] = {
    "round robin": _PLAIN,
    "rendezvous hash": {**_PLAIN, "balance": "rendezvous"},
    "ring, bounded load": {**_PLAIN, "balance": "ring"},
    "two choices": {**_PLAIN, "balance": "two_choices"},
    "least connections": {**_PLAIN, "balance": "least_connections"},
    "round robin, ejecting": {"outlier": _EJECTING, "retries": _RETRIES},
}
NGINX = {"nginx round robin": "", "nginx least_conn": "least_conn;"}
_CONTROLS = ("round robin", "nginx round robin")


@dataclass(frozen=True, slots=True)
class Seen:
    """slow_share: of the requests, 0..1, that the slow backend was sent."""

    outcome: Outcome
    slow_share: float


def run(lab: Lab) -> Result:
    """Start four backends and an nginx for each of its arms; measure arm by arm."""
    backends = _start_backends(lab)
    seconds = 2.5 if lab.quick else 10.0
    seen: dict[str, Seen] = {}
    for name, described in POLICIES.items():
        seen[name] = asyncio.run(_through_gateway(lab, backends, described, seconds))
        lab.note(_told(name, seen[name]))
    for number, (name, method) in enumerate(NGINX.items()):
        nginx = Nginx(_nginx_config(backends, method), f"nginx-balancing-{number}")
        lab.runtime.start(nginx)
        seen[name] = asyncio.run(_measure(lab, backends, nginx.port, seconds))
        lab.runtime.stop(nginx.name)
        lab.note(_told(name, seen[name]))
    frozen = {
        checked: asyncio.run(_frozen(lab, backends, checked=checked)) for checked in (False, True)
    }
    plot = Plot(Axis("policy"), Axis("share of requests sent to the slow backend (%)"), kind="bars")
    notes = (
        f"{RATE_PER_S:.0f} requests/s; {BACKENDS - 1} backends answer in {FAST_S * 1e3:.0f} ms, "
        f"one in {SLOW_S * 1e3:.0f} ms however many it is sent: slow, not overloaded.",
        "Latencies include this machine's own noise; shares do not.",
    )
    return Result(_arms(seen, frozen), _shape(seen, frozen), plot, notes)


def _start_backends(lab: Lab) -> list[Service]:
    """The last one is slow."""
    specs: list[ServiceSpec] = []
    for number in range(BACKENDS):
        name = f"balancing-{number}"
        port = lab.runtime.port(name, 8000)
        delay_s = SLOW_S if number == BACKENDS - 1 else FAST_S
        module = "month1_caching_gateway.experiments.balancing_backend"
        argv = ("python", "-m", module, name, str(port), str(delay_s))
        specs.append(ServiceSpec(name, argv, port))
    return lab.runtime.services(*specs)


def _nginx_config(backends: list[Service], method: str) -> str:
    servers = " ".join(f"server 127.0.0.1:{one.port};" for one in backends)
    return (
        f"upstream app {{ {method} {servers} keepalive 128; }}\n"
        "server { listen 127.0.0.1:$PORT; location / { proxy_pass http://app; "
        'proxy_http_version 1.1; proxy_set_header Connection ""; } }'
    )


@asynccontextmanager
async def _gateway(
    backends: list[Service], described: dict[str, Any]
) -> AsyncGenerator[tuple[int, CollectorRegistry]]:
    """Its port, and where it reports to."""
    clock = SystemClock()
    telemetry = build_telemetry(
        TelemetrySettings("gateway", trace_export="none"), stream=io.StringIO()
    )
    gateway = Gateway(
        GatewaySettings(sweep_s=0.02, trace_ratio=0.0),
        [Route("app", prefix="/", auth="none", timeout_s=_OVER_S)],
        [
            Upstream(
                "app",
                tuple(Endpoint("127.0.0.1", one.port) for one in backends),
                max_connections=256,
                **described,
            )
        ],
        TokenVerifier(StaticJwks(jwks([SigningKey.generate()])), "lab", "lab", clock),
        Limiter(MemoryStore(clock), clock),
        telemetry,
        clock,
        log_sink=len,
    )
    try:
        yield await gateway.start("127.0.0.1", 0), telemetry.registry
    finally:
        await gateway.stop()
        telemetry.shutdown()


async def _through_gateway(
    lab: Lab, backends: list[Service], described: dict[str, Any], seconds: float
) -> Seen:
    async with _gateway(backends, described) as (port, _):
        return await _measure(lab, backends, port, seconds)


async def _measure(lab: Lab, backends: list[Service], port: int, seconds: float) -> Seen:
    slow = backends[-1].port
    before = int(await ask(slow, "/count"))
    load = open_loop(port, rate_per_s=RATE_PER_S, seconds=seconds, keys=KEYS, random=lab.random())
    outcome = await load
    met = int(await ask(slow, "/count")) - before
    return Seen(outcome, met / len(outcome.took_ms))


async def _frozen(lab: Lab, backends: list[Service], *, checked: bool) -> int:
    """Of FROZEN_REQUESTS reads, how many the frozen backend was sent. One of the fast ones."""
    sick, others = backends[0], backends[:-1]
    health = HealthPolicy(interval_s=0.1, timeout_s=5 * TRY_S, fall=2)
    described: dict[str, Any] = {"outlier": None, "retries": _RETRIES}
    if checked:
        described |= {"outlier": _EJECTING, "health": health}
    before = int(await ask(sick.port, "/count"))
    label = {"endpoint": f"app/127.0.0.1:{sick.port}"}
    async with _gateway(others, described) as (port, registry):
        await asyncio.to_thread(lab.runtime.pause, sick.name)
        try:
            if checked:
                async with asyncio.timeout(_OVER_S):
                    while registry.get_sample_value(  # noqa: ASYNC110 - it happens elsewhere
                        "gateway_endpoint_available", label
                    ):
                        await asyncio.sleep(0.01)
            for number in range(FROZEN_REQUESTS):
                await ask(port, f"/k/{number}")
        finally:
            await asyncio.to_thread(lab.runtime.resume, sick.name)
        return int(await ask(sick.port, "/count")) - before


def _told(name: str, seen: Seen) -> str:
    return (
        f"{name}: {seen.slow_share:.1%} met the slow backend, "
        f"p95 {seen.outcome.quantile_ms(0.95):.0f} ms, p99 {seen.outcome.quantile_ms(0.99):.0f} ms"
    )


def _arms(seen: dict[str, Seen], frozen: dict[bool, int]) -> tuple[Arm, ...]:
    arms = [
        Arm(
            name,
            "control" if name in _CONTROLS else "treatment",
            {
                "slow_share_pct": round(one.slow_share * 100, 2),
                "p50_ms": round(one.outcome.quantile_ms(0.50), 1),
                "p95_ms": round(one.outcome.quantile_ms(0.95), 1),
                "p99_ms": round(one.outcome.quantile_ms(0.99), 1),
                "requests": len(one.outcome.took_ms),
                "failed": one.outcome.failed,
            },
            ((float(place), round(one.slow_share * 100, 2)),),
        )
        for place, (name, one) in enumerate(seen.items())
    ]
    even = 100 / BACKENDS
    arms.append(Arm("even shares", "theory", {"slow_share_pct": even}, ((float(len(arms)), even),)))
    for checked, name in ((False, "frozen backend, no checks"), (True, "frozen backend, checked")):
        figures = {"requests": FROZEN_REQUESTS, "sent_to_the_frozen": frozen[checked]}
        arms.append(Arm(name, "treatment" if checked else "control", figures))
    return tuple(arms)


def _shape(seen: dict[str, Seen], frozen: dict[bool, int]) -> tuple[Claim, ...]:
    share = {name: one.slow_share for name, one in seen.items()}
    p95 = {name: one.outcome.quantile_ms(0.95) for name, one in seen.items()}
    blind = ("round robin", "nginx round robin", "rendezvous hash")
    loaded = ("least connections", "two choices", "nginx least_conn", "ring, bounded load")
    failed = sum(one.outcome.failed for one in seen.values())

    def shares(names: tuple[str, ...]) -> str:
        return ", ".join(f"{name} {share[name]:.1%}" for name in names)

    return (
        Claim(
            "Picks that do not look at load send the slow backend its even share, 15 to 35 %.",
            all(0.15 <= share[name] <= 0.35 for name in blind),
            shares(blind),
        ),
        Claim(
            "Picks by load send it less than half as much as round robin.",
            all(share[name] < share["round robin"] / 2 for name in loaded),
            shares(("round robin", *loaded)),
        ),
        Claim(
            "Least connections send it no more than two choices, two choices no more than turns.",
            share["least connections"]
            <= share["two choices"] + 0.02
            <= share["round robin"] + 0.02,
            shares(("least connections", "two choices", "round robin")),
        ),
        Claim(
            "A deadline for each try and ejection cut its share below a third of round robin's.",
            share["round robin, ejecting"] < share["round robin"] / 3,
            shares(("round robin", "round robin, ejecting")),
        ),
        Claim(
            "The 95th percentile is the slow backend's under turns, and not under picks by load.",
            p95["round robin"] > 1.5 * max(p95["least connections"], p95["two choices"]),
            ", ".join(f"{name} {value:.0f} ms" for name, value in p95.items()),
        ),
        Claim(
            "Without checks at least a quarter of the requests meet a frozen backend; once checks "
            "have seen it, none does.",
            frozen[False] >= FROZEN_REQUESTS / 4 and frozen[True] == 0,
            f"without {frozen[False]}, with {frozen[True]} of {FROZEN_REQUESTS}",
        ),
        Claim("No request failed in any arm.", failed == 0, f"{failed} failed"),
    )


EXPERIMENT = Experiment(
    slug="load-balancing",
    question="One backend of several is slow, then one is dead: who still sends requests to it?",
    varied="the policy of the picks, in the gateway and in nginx; checks and ejection on or off",
    fixed=f"{BACKENDS} backends, one slow; {RATE_PER_S:.0f} requests/s in an open loop, same keys",
    run=run,
    topics=("A11",),
    needs=("nginx",),
)
