"""Probes: what each says, how long it may take, how often it may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from scalelab.clock import ManualClock
from scalelab.web import lifecycle_of
from scalelab.web.health import CHECK_DEADLINE_S
from tests.unit.core.web.asgi_harness import Bench, bench, call


def started(clock: ManualClock, **checks: Callable[[], Awaitable[None]]) -> Bench:
    it = bench(APIRouter(), readiness=checks, clock=clock)
    lifecycle_of(it.app).started = True
    return it


async def passing() -> None:
    return


async def failing() -> None:
    raise OSError("10.0.0.7 refused")


async def test_ready_means_every_check_passes() -> None:
    """503 with the name of what fails, without its reason, which is for the log."""
    good = started(ManualClock(), database=passing, cache=passing)
    answer = await call(good.app, "GET", "/health/ready")
    assert answer.status == 200
    assert answer.json == {"status": "ready", "checks": {"database": "ok", "cache": "ok"}}
    bad = started(ManualClock(), database=passing, cache=failing)
    answer = await call(bad.app, "GET", "/health/ready")
    assert answer.status == 503
    assert answer.json["checks"] == {"database": "ok", "cache": "failed"}
    assert b"10.0.0.7" not in answer.body
    assert bad.lines[0]["check"] == "cache"


async def test_hanging_check_times_out_alone() -> None:
    """One dependency that does not answer neither hangs the probe nor hides the others."""

    async def hanging() -> None:
        await asyncio.Event().wait()

    it = started(ManualClock(), database=hanging, cache=passing)
    async with asyncio.timeout(CHECK_DEADLINE_S * 5):
        answer = await call(it.app, "GET", "/health/ready")
    assert answer.json["checks"] == {"database": "timeout", "cache": "ok"}


async def test_probes_do_not_load_what_they_ask_about() -> None:
    """However many ask, each check runs once a second."""
    runs = 0

    async def counted() -> None:
        nonlocal runs
        runs += 1

    clock = ManualClock()
    it = started(clock, database=counted)
    await asyncio.gather(*(call(it.app, "GET", "/health/ready") for _ in range(20)))
    assert runs == 1
    clock.advance(1)
    await call(it.app, "GET", "/health/ready")
    assert runs == 2


async def test_draining_process_is_alive_but_not_ready() -> None:
    """A balancer stops sending; nobody restarts it for that. No check is asked any more."""

    async def forbidden() -> None:
        raise AssertionError

    it = started(ManualClock(), database=forbidden)
    lifecycle_of(it.app).begin_drain()
    answer = await call(it.app, "GET", "/health/ready")
    assert (answer.status, answer.json["status"]) == (503, "draining")
    assert (await call(it.app, "GET", "/health/live")).status == 200
    assert (await call(it.app, "GET", "/health/startup")).status == 200


async def test_not_started_is_not_ready() -> None:
    """A process whose lifespan is not up has no pools to answer with."""
    it = bench(APIRouter(), readiness={"database": passing})
    answer = await call(it.app, "GET", "/health/ready")
    assert (answer.status, answer.json["status"]) == (503, "starting")
    assert (await call(it.app, "GET", "/health/live")).status == 200
