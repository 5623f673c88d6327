"""kill -9 of the mover at every step: no order is lost, none doubled, and the next run goes on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from month2_databases.archive import ColdPolicy, is_cold
from tests.integration.month2.archive.archive_bed import NOW, Bed

STEPS = ("planned", "exported", "uploaded", "stored", "verified", "deleted", "cold")
PROGRAM = Path(__file__).with_name("mortal_mover.py")
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
async def mortal(bed: Bed) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that forks movers which die where they are told to."""
    server = bed.server
    keys = {"S3_ACCESS": server.access_key, "S3_SECRET": server.secret_key}
    arguments = [bed.dsn, server.endpoint, bed.buckets.cold, NOW.isoformat()]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROGRAM),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **keys, "PYTHONPATH": str(ROOT)},
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


async def move_until(process: asyncio.subprocess.Process, step: str) -> int:
    """One mover that dies at this step, if it comes there; its exit code."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{step}\n".encode())
    await process.stdin.drain()
    return int(await process.stdout.readline())


async def test_killed_at_every_step_it_loses_and_doubles_no_order(
    bed: Bed, mortal: asyncio.subprocess.Process
) -> None:
    """I2: after each kill one snapshot holds every order once, and the rest can still be moved."""
    for step in STEPS:
        assert await move_until(mortal, step) == -9
        await bed.every_order_once()
    assert await move_until(mortal, "never") == 0
    cold = {one.order_id for one in bed.every.values() if is_cold(one, ColdPolicy(2), NOW)}
    assert bed.hot_ids() == set(bed.every) - cold
    await bed.every_order_once()


async def test_a_kill_between_upload_and_delete_leaves_the_rows_and_one_object(
    bed: Bed, mortal: asyncio.subprocess.Process
) -> None:
    """The second export makes the same bytes under the same name."""
    assert await move_until(mortal, "uploaded") == -9
    left = [key async for key in bed.store.keys(bed.buckets.cold)]
    assert len(left) == 2
    assert bed.hot_ids() == set(bed.every)
    assert await move_until(mortal, "cold") == -9
    assert [key async for key in bed.store.keys(bed.buckets.cold)] == left
    assert len(bed.hot_ids()) < len(bed.every)
    await bed.every_order_once()
