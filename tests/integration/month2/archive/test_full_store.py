"""An object store whose disk is full: said by its own code, and no order and no object is lost."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from month2_databases.archive import Source, upload
from scalelab.clients.s3 import SMALLEST_PART_BYTES
from scalelab.errors import Unavailable
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import VersityGw
from tests.fixtures.small_disks import fill_up
from tests.integration.month2.archive.archive_bed import Bed, open_bed

_ROOM = 4 << 10


@pytest.fixture
async def small(
    database_dsn: str,
    versitygw_built: None,
    server_root: Path,
    small_disk: Callable[[int], Path],
    bucket_name: str,
) -> AsyncIterator[Bed]:
    """240 orders, and a store of their own that has 24 MiB."""
    folder = server_root / f"small-s3-{uuid.uuid4().hex[:8]}"
    with Runtime(folder, private=True) as runtime:
        server = VersityGw("small-s3", objects=small_disk(24))
        runtime.start(server)
        async with open_bed(database_dsn, server, bucket_name, 240) as bed:
            yield bed


async def test_a_move_into_a_full_store_keeps_every_order(small: Bed) -> None:
    """The rows stay in the database; with room again the same move ends."""
    ballast = fill_up(small.server.objects, leave_bytes=_ROOM)
    with pytest.raises(Unavailable) as refused:
        await small.mover(rows=200).run()
    assert (refused.value.stable_code, refused.value.retryable) == ("s3_full", True)
    assert small.hot_ids() == set(small.every)
    await small.every_order_once()
    ballast.unlink()
    assert (await small.mover(rows=200).run()).rows > 0
    await small.every_order_once()


async def test_an_object_that_cannot_be_replaced_stays_as_it_was(small: Bed) -> None:
    """Neither the old one is lost nor half of the new one is there; reading goes on."""
    store, bucket = small.store, small.buckets.cold
    old = os.urandom(100_000)
    await store.put(bucket, "report", old)
    ballast = fill_up(small.server.objects, leave_bytes=_ROOM)
    for key in ("report", "another"):
        with pytest.raises(Unavailable) as refused:
            await store.put(bucket, key, os.urandom(200_000))
        assert refused.value.stable_code == "s3_full"
    assert await store.get(bucket, "report") == old
    assert [key async for key in store.keys(bucket)] == ["report"]
    ballast.unlink()
    await store.put(bucket, "report", b"new")
    assert await store.get(bucket, "report") == b"new"


async def test_an_upload_in_parts_goes_on_when_there_is_room(small: Bed) -> None:
    """The parts that fitted are kept by the server and not sent again."""
    store, bucket = small.store, small.buckets.cold
    content = os.urandom(2 * SMALLEST_PART_BYTES)
    source = Source(len(content), lambda offset, count: content[offset : offset + count])
    ballast: list[Path] = []

    def at(step: str) -> None:
        if step == "part 1":
            ballast.append(fill_up(small.server.objects, leave_bytes=_ROOM))

    with pytest.raises(Unavailable) as refused:
        await upload(store, bucket, "big", source, at=at)
    assert refused.value.stable_code == "s3_full"
    assert [key async for key in store.keys(bucket)] == []
    ballast[0].unlink()
    report = await upload(store, bucket, "big", source)
    assert (report.sent, report.kept) == (1, 1)
    assert await store.get(bucket, "big") == content
