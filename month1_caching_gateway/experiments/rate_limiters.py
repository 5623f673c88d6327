"""Five clients in two bursts around a window's boundary: what does each rate algorithm let through?

Every arrival is asked of all algorithms at the same time, under one policy and on one Redis, so the
arms differ in the algorithm alone. A burst ends shortly before a boundary of the fixed window, the
next begins shortly after it. What is admitted in a span much shorter than the window shows the
fixed window's seam; every pair of instants is checked against the algorithm's stated bound.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol, cast

from month1_caching_gateway.ratelimit import (
    FIXED_WINDOW,
    RATE_ALGORITHMS,
    Policy,
    RateAlgorithm,
    RedisStore,
)
from scalelab.clients.redis import connect, map_errors
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Redis

CAPACITY = 40
CLIENTS = 5
BEFORE_S = (-0.20, -0.17, -0.14)
AFTER_S = (0.02, 0.05, 0.08)
PER_CLIENT = 6
"""Requests of one client in one of the parts of a burst; a burst offers 90 for 40 places."""
SPAN = 0.4
"""Of a window: the span in which the most admitted is looked for. It holds both bursts."""
DEADLINE_S = 10.0


class _TimeCall(Protocol):
    """The one call we make; redis-py leaves its type open."""

    async def time(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a burst, as one algorithm saw it. Instants: monotonic; boundary: at 0."""

    admitted: int
    sent_s: float
    answered_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """All rounds of one algorithm. most: in any SPAN. over: the worst excess over the bound."""

    most: int
    admitted: int
    over: float
    points: tuple[tuple[float, float], ...]


def run(lab: Lab) -> Result:
    """Start a Redis, offer the bursts for some rounds, judge what each algorithm admitted."""
    server = Redis("redis-rate-limiters")
    lab.runtime.start(server)
    window_s, rounds = (1.5, 4) if lab.quick else (2.0, 10)
    policy = Policy(CAPACITY, CAPACITY / window_s)
    lab.note(f"{rounds} rounds of two bursts of {len(BEFORE_S) * CLIENTS * PER_CLIENT} requests")
    try:
        parts = asyncio.run(_rounds(server.url, policy, window_s, rounds))
    finally:
        lab.runtime.stop(server.name)
    seen = {
        one: _judge(one, policy, window_s, [by_name[one.name] for by_name in parts])
        for one in RATE_ALGORITHMS
    }
    offered = rounds * (len(BEFORE_S) + len(AFTER_S)) * CLIENTS * PER_CLIENT
    return Result(
        arms=tuple(_arm(one, of_one, offered) for one, of_one in seen.items()),
        shape=_claims(seen),
        plot=Plot(
            Axis("time from the window's boundary (ms)"),
            Axis("admitted since the first (requests)"),
        ),
        notes=(
            f"Capacity {CAPACITY}, window {window_s:g} s, so {policy.rate_per_s:g} requests/s.",
            "Each round begins with a full allowance: two windows of silence lie between rounds.",
            "The plot shows each algorithm's round with the most admitted.",
        ),
    )


async def _rounds(
    url: str, policy: Policy, window_s: float, rounds: int
) -> list[dict[str, list[Part]]]:
    async with AsyncExitStack() as stack:
        clients = [connect(url, timeout_s=DEADLINE_S) for _ in range(CLIENTS)]
        stores: dict[str, list[RedisStore]] = {}
        for client in clients:
            stack.push_async_callback(client.aclose)
        for one in RATE_ALGORITHMS:
            stores[one.name] = [
                RedisStore(client, prefix=f"{one.name}:", deadline_s=DEADLINE_S, algorithm=one)
                for client in clients
            ]
            for store in stores[one.name]:
                stack.push_async_callback(store.aclose)
                await store.check("warm-up", policy)  # loads the script, opens the connection
        seen: list[dict[str, list[Part]]] = []
        for _ in range(rounds):
            with map_errors(read_only=True):
                seconds, microseconds = await cast(_TimeCall, clients[0]).time()
            server_s = int(seconds) + int(microseconds) / 1e6
            # Two whole windows of silence lie before it: the allowances are whole again.
            boundary_s = (server_s // window_s + 3) * window_s
            boundary_at_s = time.monotonic() + boundary_s - server_s
            seen.append(await _round(stores, policy, boundary_at_s))
        return seen


async def _round(
    stores: dict[str, list[RedisStore]], policy: Policy, boundary_at_s: float
) -> dict[str, list[Part]]:
    seen: dict[str, list[Part]] = {name: [] for name in stores}
    for offset_s in (*BEFORE_S, *AFTER_S):
        await asyncio.sleep(max(0.0, boundary_at_s + offset_s - time.monotonic()))
        sent_s = time.monotonic() - boundary_at_s
        admitted = await asyncio.gather(*(_burst(of_one, policy) for of_one in stores.values()))
        answered_s = time.monotonic() - boundary_at_s
        for name, count in zip(stores, admitted, strict=True):
            seen[name].append(Part(count, sent_s, answered_s))
    return seen


async def _burst(stores: Sequence[RedisStore], policy: Policy) -> int:
    checks = (store.check("caller", policy) for store in stores for _ in range(PER_CLIENT))
    return sum(one.admitted for one in await asyncio.gather(*checks))


def _judge(
    algorithm: RateAlgorithm, policy: Policy, window_s: float, rounds: Sequence[Sequence[Part]]
) -> Seen:
    """Sums over all spans from the sending of one part to the answer of a later one.

    The server decided in between, so no span is shorter than what the server saw.
    """
    most, over = 0, float("-inf")
    everything = [part for parts in rounds for part in parts]
    for parts in rounds:
        for first in range(len(parts)):
            total = 0
            for part in parts[first:]:
                total += part.admitted
                t_s = part.answered_s - parts[first].sent_s
                over = max(over, total - algorithm.bound(policy, t_s * 1.001))
                if t_s <= SPAN * window_s:
                    most = max(most, total)
    best = max(rounds, key=lambda parts: sum(part.admitted for part in parts))
    points: list[tuple[float, float]] = []
    total = 0
    for part in best:
        total += part.admitted
        points.append((round(part.answered_s * 1000, 1), float(total)))
    return Seen(most, sum(part.admitted for part in everything), over, tuple(points))


def _arm(algorithm: RateAlgorithm, seen: Seen, offered: int) -> Arm:
    return Arm(
        algorithm.name,
        "control" if algorithm is FIXED_WINDOW else "treatment",
        {
            "most_in_a_short_span": seen.most,
            "of_capacity": round(seen.most / CAPACITY, 2),
            "admitted": seen.admitted,
            "offered": offered,
        },
        seen.points,
    )


def _claims(seen: dict[RateAlgorithm, Seen]) -> tuple[Claim, ...]:
    ratios = {one.name: of_one.most / CAPACITY for one, of_one in seen.items()}
    fixed = ratios.pop(FIXED_WINDOW.name)
    others = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    excess = ", ".join(f"{one.name} {of_one.over:+.1f}" for one, of_one in seen.items())
    return (
        Claim(
            "Every algorithm admits at most its stated bound between any two instants of a round.",
            all(of_one.over <= 1e-6 for of_one in seen.values()),
            f"admitted minus bound, at the worst: {excess}",
        ),
        Claim(
            "The fixed window lets 1.5 to 2 times its capacity through at a boundary.",
            1.5 <= fixed <= 2.0,
            f"{fixed:.2f} times the capacity within {SPAN:g} of a window",
        ),
        Claim(
            f"The others let through the capacity, and what {SPAN:g} of a window earns, at most.",
            all(1.0 <= ratio <= 1.0 + SPAN + 1e-9 for ratio in ratios.values()),
            f"times the capacity: {others}",
        ),
    )


EXPERIMENT = Experiment(
    slug="rate-limiters",
    question="What does a rate limit let through when bursts meet at the boundary of its window?",
    varied="the algorithm: token bucket, GCRA, fixed window, sliding window counter",
    fixed="arrivals, policy (40 requests, refilled in one window), server, number of clients",
    run=run,
    topics=("A8", "P6.2"),
    needs=("redis",),
)
