"""A dependency fails: how many requests does it get for each call that somebody wanted to make?

A real HTTP server refuses a share of what it is asked, drawn from a seed, and counts. Equal calls
are made with immediate retries, with back-off and full jitter, and with a retry budget on top; then
through a service in the middle that retries as well. Amplification is requests for each call.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from fastapi import APIRouter, FastAPI

from month3_messaging.experiments.app_serving import serving_url
from scalelab.clients.http import HttpClient
from scalelab.errors import Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.resilience import Backoff, BudgetPolicy, Guard, RetryPolicy
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import create_app

TRIES = 4
CALLS_QUICK = 300
CALLS_FULL = 3000
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_AT_ONCE = 20
_PATIENCE_S = 120.0
_BAND = 0.2
_NO_WAIT = Backoff(first_s=0.0, factor=1.0, cap_s=0.0)
_JITTER = Backoff(first_s=0.002, factor=2.0, cap_s=0.02)
_NO_END = BudgetPolicy(ratio=TRIES, reserve=10.0**9)
_BUDGET = BudgetPolicy(ratio=0.2, reserve=10.0)

POLICIES: Mapping[str, RetryPolicy] = {
    "immediate": RetryPolicy(TRIES, _NO_WAIT, _NO_END),
    "back-off with jitter": RetryPolicy(TRIES, _JITTER, _NO_END),
    "jitter and budget": RetryPolicy(TRIES, _JITTER, _BUDGET),
}


@dataclass
class Dependency:
    """Refuses a share of its requests and counts all of them."""

    share: float
    random: Random
    asked: int = 0

    def app(self) -> FastAPI:
        router = APIRouter()

        @router.get("/answer")
        async def answer() -> dict[str, str]:
            self.asked += 1
            if self.random.random() < self.share:
                raise Unavailable("too much to do")
            return {}

        return _app(router)


def run(lab: Lab) -> Result:
    """Each policy at each share of refusals, then two layers of each with everything refused."""
    return asyncio.run(_run(lab, CALLS_QUICK if lab.quick else CALLS_FULL))


async def _run(lab: Lab, calls: int) -> Result:
    lines: dict[str, list[float]] = {}
    layered: dict[str, float] = {}
    for name, policy in POLICIES.items():
        lines[name] = [await _amplification(policy, share, calls, lab) for share in SHARES]
        layered[name] = await _through_a_middle(policy, calls // TRIES, lab)
        lab.note(f"{name}: {lines[name]}, through a middle {layered[name]:.2f}")
    return _judged(lines, layered, calls)


async def _amplification(policy: RetryPolicy, share: float, calls: int, lab: Lab) -> float:
    dependency = Dependency(share, lab.random())
    async with serving_url(dependency.app()) as url, _caller(url, policy, lab) as http:
        await _call(http, calls)
    return dependency.asked / calls


async def _through_a_middle(policy: RetryPolicy, calls: int, lab: Lab) -> float:
    """Two layers that retry, and nothing but refusals at the end."""
    dependency = Dependency(1.0, lab.random())
    async with serving_url(dependency.app()) as end, _caller(end, policy, lab) as onward:
        router = APIRouter()

        @router.get("/answer")
        async def answer() -> dict[str, str]:
            return (await onward.get("/answer")).json()

        async with serving_url(_app(router)) as middle, _caller(middle, policy, lab) as http:
            await _call(http, calls)
    return dependency.asked / calls


@asynccontextmanager
async def _caller(url: str, policy: RetryPolicy, lab: Lab) -> AsyncGenerator[HttpClient]:
    guard = Guard("lab", timeout_s=_PATIENCE_S, retry=policy, random_unit=lab.random().random)
    async with HttpClient(
        url, guard=guard, timeout_s=_PATIENCE_S, connect_timeout_s=_PATIENCE_S
    ) as http:
        yield http


async def _call(http: HttpClient, calls: int) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> None:
        async with gate:
            with suppress(Unavailable):
                await http.get("/answer")

    async with asyncio.TaskGroup() as group:
        for _ in range(calls):
            group.create_task(one())


def _app(router: APIRouter) -> FastAPI:
    telemetry = build_telemetry(TelemetrySettings(service="lab"), stream=io.StringIO())
    return create_app(telemetry=telemetry, routers=[router])


def expected(share: float) -> float:
    """Requests for each call when every refusal is tried again: 1 + p + p² + … (TRIES terms)."""
    return sum(share**n for n in range(TRIES))


def capped(calls: int) -> float:
    """What a budget lets through at most: 1 + ratio, and the reserve spread over the calls."""
    return 1 + _BUDGET.ratio + _BUDGET.reserve / calls


def _judged(
    lines: Mapping[str, Sequence[float]], layered: Mapping[str, float], calls: int
) -> Result:
    budget = lines["jitter and budget"]
    arms = [
        Arm(
            name,
            "treatment" if line is budget else "control",
            {
                "all_refused": round(line[-1], 3),
                "half_refused": round(line[SHARES.index(0.5)], 3),
                "two_layers_all_refused": round(layered[name], 3),
            },
            tuple(zip(SHARES, line, strict=True)),
        )
        for name, line in lines.items()
    ]
    theory = tuple((share, expected(share)) for share in SHARES)
    arms.append(Arm("1 + p + p² + p³", "theory", {}, theory))
    plot = Plot(Axis("share of requests that are refused"), Axis("requests for each call"))
    return Result(
        tuple(arms),
        _claims(lines, layered, calls),
        plot,
        notes=(
            "Back-off still matters: it gives the dependency time. It is the budget that bounds "
            "how much more it is asked for meanwhile.",
        ),
    )


def _claims(
    lines: Mapping[str, Sequence[float]], layered: Mapping[str, float], calls: int
) -> tuple[Claim, ...]:
    now, jitter, budget = lines.values()
    now2, jitter2, budget2 = layered.values()
    theory = [expected(share) for share in SHARES]
    bound = capped(calls)
    # The middle has one call for each try of the caller; both have a purse of their own.
    few = calls // TRIES
    bound2 = capped(few) * (1 + _BUDGET.ratio) + _BUDGET.reserve / few
    return (
        Claim(
            "Unbudgeted retries follow 1 + p + p² + p³, and reach the number of tries.",
            all(
                abs(seen / due - 1) <= _BAND
                for line in (now, jitter)
                for seen, due in zip(line, theory, strict=True)
            )
            and now[-1] == jitter[-1] == TRIES,
            f"{[round(seen, 2) for seen in now]} for {[round(due, 2) for due in theory]}",
        ),
        Claim(
            "Back-off with jitter moves retries apart and takes none away.",
            jitter[-1] == now[-1],
            f"{jitter[-1]:.2f} as {now[-1]:.2f} requests for each call when all are refused",
        ),
        Claim(
            "A budget caps them at 1 + ratio and its reserve, however much fails.",
            max(budget) <= bound and budget[0] == 1.0,
            f"at most {max(budget):.3f}, bound {bound:.3f}",
        ),
        Claim(
            "Two layers that retry multiply; two budgets do not let them.",
            now2 == jitter2 == TRIES**2 and budget2 <= bound2,
            f"{now2:.0f} and {jitter2:.0f}, with budgets {budget2:.2f} (bound {bound2:.2f})",
        ),
    )


EXPERIMENT = Experiment(
    slug="retry-storm",
    question="How many requests does a failing dependency get for each call?",
    varied="how failures are tried again; the share that fails; one or two layers that retry",
    fixed=f"{TRIES} tries, the calls and how many are under way at once",
    run=run,
    topics=("C11", "R8"),
)
