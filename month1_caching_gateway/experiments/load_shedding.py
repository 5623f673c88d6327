"""Three times what a service can do is asked of it. How much is still answered in time?

The service is a process that works on four requests at once. The gateway before it lets everything
through, or bounds connections and queue by numbers that somebody chose for another day, or learns
from the latency how much to let through and sheds the rest. Arrivals are an open loop: customers do
not wait for each other. An answer counts if it comes within the deadline, from the instant at which
the request was due. Then the load falls to half of the capacity: who recovers, and when?
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random

import aiohttp

from month1_caching_gateway.experiments.fixed_service import CAPACITY_PER_S, SEATS
from month1_caching_gateway.gateway import Endpoint, Gateway, GatewaySettings, Route, Upstream
from month1_caching_gateway.gateway.gate import Shed
from month1_caching_gateway.gateway.process import NoTokens
from month1_caching_gateway.ratelimit import Limiter, MemoryStore
from scalelab.clock import SystemClock
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role
from scalelab.lab.runtime import ServiceSpec
from scalelab.resilience.adaptive_limit import LimitPolicy
from scalelab.resilience.waiting_room import RoomPolicy
from scalelab.telemetry import TelemetrySettings, build_telemetry

OVERLOAD, AFTERWARDS = 3.0, 0.5
"""Offered load, in capacities."""
DEADLINE_S = 0.6
SETTLING_S = 1.0
"""The first of the overload: every queue is still filling."""
CRITICAL_SHARE = 0.1
_SHED = Shed(LimitPolicy(initial=8), RoomPolicy(seats=32, patience_s=0.2, crowded_s=0.1))
_MODULE = "month1_caching_gateway.experiments.fixed_service"

_NOWHERE = (Endpoint("-", 0),)
ARMS: dict[str, tuple[Role, Upstream]] = {
    "no bound": ("control", Upstream("app", _NOWHERE, max_connections=4000, max_waiting=4000)),
    "static bound": ("control", Upstream("app", _NOWHERE, max_connections=24, max_waiting=48)),
    "adaptive": ("treatment", Upstream("app", _NOWHERE, max_connections=256, shed=_SHED)),
}
"""The endpoint is filled in when the service runs."""


@dataclass(frozen=True, slots=True)
class Request:
    """due_s: from the start. critical: the route. late_s: until its 200, None if there was none."""

    due_s: float
    critical: bool
    late_s: float | None = None

    @property
    def good(self) -> bool:
        """Answered, and in time."""
        return self.late_s is not None and self.late_s <= DEADLINE_S


@dataclass(frozen=True, slots=True)
class Seen:
    """Shares of one arm. goodput: answers in time over what the service could do meanwhile.

    critical, recovered: share of requests answered in time, of the critical ones during the
    overload and of all afterwards.
    """

    goodput: float
    critical: float
    recovered: float
    per_half_second: tuple[tuple[float, float], ...]


def plan_of(random: Random, overload_s: float, afterwards_s: float) -> list[Request]:
    """Poisson arrivals at three capacities, then at half of one."""
    plan: list[Request] = []
    now_s, end_s = 0.0, overload_s + afterwards_s
    while True:
        load = OVERLOAD if now_s < overload_s else AFTERWARDS
        now_s += random.expovariate(load * CAPACITY_PER_S)
        if now_s >= end_s:
            return plan
        plan.append(Request(now_s, random.random() < CRITICAL_SHARE))


def run(lab: Lab) -> Result:
    """Each arm with a service, a gateway and the same arrivals of its own."""
    overload_s, afterwards_s = (5.0, 2.5) if lab.quick else (15.0, 10.0)
    ports = {name: lab.runtime.port(f"shed-{name}", 8900) for name in ARMS}
    lab.runtime.services(
        *(
            ServiceSpec(
                f"shed-{name}".replace(" ", "-"), ("python", "-m", _MODULE, str(port)), port
            )
            for name, port in ports.items()
        )
    )
    seen: dict[str, Seen] = {}
    for name in ARMS:
        lab.note(f"{name}: {OVERLOAD:g} capacities for {overload_s:g} s, then {AFTERWARDS:g}")
        plan = plan_of(lab.random(), overload_s, afterwards_s)
        asked = asyncio.run(_measure(ARMS[name][1], ports[name], plan))
        seen[name] = judge(asked, overload_s, overload_s + afterwards_s)
    return Result(
        arms=tuple(_arm(name, one) for name, one in seen.items()),
        shape=claims(seen),
        plot=Plot(Axis("time (s)"), Axis("answers in time (per second)")),
        notes=(
            f"The service works on {SEATS} requests at once: {CAPACITY_PER_S:g} per second.",
            f"In time is within {DEADLINE_S:g} s.",
            "The static bound is 24 connections and 48 waiting. A caller that hangs up frees its",
            "connection, and the service works on: the bound holds less than it seems to.",
            f"Overload ends after {overload_s:g} s. One request in ten is on a critical route.",
        ),
    )


async def _measure(upstream: Upstream, port: int, plan: list[Request]) -> list[Request]:
    loop = asyncio.get_running_loop()
    async with (
        _gateway(upstream, port) as door,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        begin_s = loop.time() + 0.2

        async def ask(request: Request) -> Request:
            due_s = begin_s + request.due_s
            await asyncio.sleep(due_s - loop.time())
            url = f"http://127.0.0.1:{door}/{'critical' if request.critical else 'normal'}"
            try:
                # What is later than twice the deadline is late anyway; its caller hangs up.
                async with asyncio.timeout_at(due_s + 2 * DEADLINE_S), session.get(url) as got:
                    await got.read()
                    answered = got.status == 200
            except (TimeoutError, aiohttp.ClientError):
                answered = False
            late_s = loop.time() - due_s if answered else None
            return Request(request.due_s, request.critical, late_s)

        return list(await asyncio.gather(*map(ask, plan)))


@asynccontextmanager
async def _gateway(upstream: Upstream, port: int) -> AsyncGenerator[int]:
    clock = SystemClock()
    telemetry = build_telemetry(TelemetrySettings("gateway", log_level="error"))
    there = replace(upstream, endpoints=(Endpoint("127.0.0.1", port),))
    gateway = Gateway(
        GatewaySettings(acquire_timeout_s=30.0, drain_s=0.0, trace_ratio=0.0),
        [
            Route("app", template="/critical", auth="none", timeout_s=30.0, priority="critical"),
            Route("app", template="/normal", auth="none", timeout_s=30.0),
        ],
        [there],
        NoTokens(),
        Limiter(MemoryStore(clock), clock),
        telemetry,
        clock,
        log_sink=len,
    )
    try:
        yield await gateway.start("127.0.0.1", 0)
    finally:
        await gateway.stop()
        telemetry.shutdown()


def judge(asked: list[Request], overload_s: float, end_s: float) -> Seen:
    """The shares of one arm. overload_s, end_s: when the overload and the arrivals end."""
    busy = [one for one in asked if SETTLING_S <= one.due_s < overload_s]
    critical = [one for one in busy if one.critical]
    after = [one for one in asked if one.due_s >= overload_s]
    points: list[tuple[float, float]] = []
    for number in range(int(end_s * 2)):
        from_s = number / 2
        good = sum(one.good for one in asked if from_s <= one.due_s < from_s + 0.5)
        points.append((from_s, good * 2.0))
    return Seen(
        goodput=sum(one.good for one in busy) / (CAPACITY_PER_S * (overload_s - SETTLING_S)),
        critical=sum(one.good for one in critical) / max(1, len(critical)),
        recovered=sum(one.good for one in after) / max(1, len(after)),
        per_half_second=tuple(points),
    )


def claims(seen: dict[str, Seen]) -> tuple[Claim, ...]:
    """What is claimed of the arms, by their names in ARMS."""
    none, static, adaptive = (seen[name] for name in ARMS)
    return (
        Claim(
            "with adaptive shedding more than half of the capacity is answered in time",
            adaptive.goodput >= 0.5,
            f"{adaptive.goodput:.2f} of the capacity",
        ),
        Claim(
            "without a bound, or with one for another day, it is less than half of that",
            max(none.goodput, static.goodput) < adaptive.goodput / 2,
            f"{none.goodput:.2f} and {static.goodput:.2f} against {adaptive.goodput:.2f}",
        ),
        Claim(
            "critical requests are answered in time, although three times too much is asked",
            adaptive.critical >= 0.75 and adaptive.critical > max(none.critical, static.critical),
            f"{adaptive.critical:.2f}; without shedding {none.critical:.2f}",
        ),
        Claim(
            "when the load falls, shedding recovers at once; the unbounded queue does not",
            adaptive.recovered >= 0.8 and none.recovered < adaptive.recovered / 2,
            f"{adaptive.recovered:.2f} in time against {none.recovered:.2f}",
        ),
    )


def _arm(name: str, seen: Seen) -> Arm:
    figures = {
        "goodput_percent_of_capacity": round(100 * seen.goodput, 1),
        "critical_in_time_percent": round(100 * seen.critical, 1),
        "in_time_after_percent": round(100 * seen.recovered, 1),
    }
    return Arm(name, ARMS[name][0], figures, seen.per_half_second)


EXPERIMENT = Experiment(
    slug="load-shedding",
    question="Three times what a service can do is asked: how much is answered in time?",
    varied="what the gateway lets through: everything, a static bound, an adaptive limit",
    fixed="a service that works on 4 requests at once for 80 ms, the same open-loop arrivals",
    run=run,
    topics=("C4",),
)
