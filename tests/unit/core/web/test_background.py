"""Background tasks: they run, are waited for, and are missed when they end."""

from __future__ import annotations

import asyncio

import pytest

from scalelab.errors import Unavailable
from scalelab.web.background import Background


async def test_running_work_is_ready_and_is_ended_with_the_block() -> None:
    """Cancelled and waited for: its clean-up has run when the block is left."""
    events: list[str] = []
    started = asyncio.Event()

    async def serve() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            events.append("cleaned up")

    background = Background()
    async with background.running(serve()):
        await started.wait()
        await background.ready()
    assert events == ["cleaned up"]


@pytest.mark.parametrize("error", [None, ValueError("broken")])
async def test_work_that_ended_makes_unready_and_is_named(error: Exception | None) -> None:
    """By returning or by failing; leaving the block raises nothing."""
    ended = asyncio.Event()

    async def fickle() -> None:
        ended.set()
        if error is not None:
            raise error

    background = Background()
    async with background.running(fickle()):
        await ended.wait()
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="fickle"):
            await background.ready()
