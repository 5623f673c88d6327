"""Saturation of the event loop, measured while the app lives."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from tests.unit.core.web.asgi_harness import bench


async def test_loop_lag_is_measured_while_the_lifespan_is_up() -> None:
    """A timer always fires a little late, so the gauge leaves zero; no task stays behind."""
    it = bench(APIRouter())
    before = asyncio.all_tasks()
    async with it.app.router.lifespan_context(it.app), asyncio.timeout(20):
        while it.metric("scalelab_event_loop_lag_seconds") == 0:  # noqa: ASYNC110 - a gauge
            await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
