"""A large object in parts: what was sent stays sent, whoever dies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from month2_databases.archive import Source, UploadReport, give_up, part_size, upload
from scalelab.clients.s3 import SMALLEST_PART_BYTES, ObjectStore
from scalelab.errors import Conflict, InvalidInput, NotFound, ScalelabError
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import VersityGw
from tests.integration.month2.archive.archive_bed import settings_of

PART = SMALLEST_PART_BYTES
BODY = random.Random(7).randbytes(3 * PART + 1000)


def source_of(body: bytes) -> Source:
    """A source in memory."""
    return Source(len(body), lambda first, count: body[first : first + count])


@pytest.fixture
async def own(
    own_runtime: Runtime, versitygw_built: None
) -> AsyncIterator[tuple[Runtime, ObjectStore]]:
    """A server of this test alone, and a client that does not try again."""
    server = VersityGw()
    own_runtime.start(server)
    async with ObjectStore(replace(settings_of(server), attempts=1)) as store:
        await store.ensure_bucket("large")
        yield own_runtime, store


async def test_a_server_killed_in_the_middle_keeps_the_parts_it_has(
    own: tuple[Runtime, ObjectStore],
) -> None:
    """Nothing can be read before the end; afterwards only the rest is sent."""
    runtime, store = own

    def kill(step: str) -> None:
        if step == "part 2":
            runtime.kill("versitygw")

    with pytest.raises(ScalelabError) as lost:
        await upload(store, "large", "a", source_of(BODY), at=kill)
    assert lost.value.retryable
    runtime.restart("versitygw")
    with pytest.raises(NotFound):
        await store.head("large", "a")
    assert await upload(store, "large", "a", source_of(BODY)) == UploadReport(sent=2, kept=2)
    assert await store.get("large", "a") == BODY
    assert await store.uploads("large", "a") == []


@pytest.fixture
async def store(s3_server: VersityGw, bucket_name: str) -> AsyncIterator[ObjectStore]:
    """A client, and its bucket."""
    async with ObjectStore(settings_of(s3_server)) as store:
        await store.ensure_bucket(bucket_name)
        yield store


async def test_a_lost_and_a_changed_part_are_sent_again(
    store: ObjectStore, bucket_name: str
) -> None:
    """The server tells the hash of each part it holds."""
    number = await store.begin_upload(bucket_name, "a")
    await store.put_part(bucket_name, "a", number, 1, BODY[:PART])
    await store.put_part(bucket_name, "a", number, 3, b"of another source" + BODY[:PART])
    report = await upload(store, bucket_name, "a", source_of(BODY))
    assert report == UploadReport(sent=3, kept=1)
    assert await store.get(bucket_name, "a") == BODY


async def test_without_one_of_its_parts_it_is_not_completed(
    store: ObjectStore, bucket_name: str
) -> None:
    """The server refuses, and the object is not there."""
    number = await store.begin_upload(bucket_name, "a")
    etag = await store.put_part(bucket_name, "a", number, 1, BODY[:PART])
    with pytest.raises(Conflict) as refused:
        await store.complete_upload(bucket_name, "a", number, {1: etag, 2: etag})
    assert refused.value.stable_code == "part_missing"
    with pytest.raises(NotFound):
        await store.head(bucket_name, "a")


async def test_an_upload_that_is_given_up_leaves_no_part(
    store: ObjectStore, bucket_name: str
) -> None:
    """Giving up twice is no error."""
    number = await store.begin_upload(bucket_name, "a")
    await store.put_part(bucket_name, "a", number, 1, BODY[:PART])
    assert await give_up(store, bucket_name, "a") == 1
    assert await give_up(store, bucket_name, "a") == 0
    with pytest.raises(NotFound) as refused:
        await store.parts(bucket_name, "a", number)
    assert refused.value.stable_code == "no_such_upload"


def test_parts_are_neither_too_small_nor_too_many() -> None:
    """The limits of S3."""
    assert part_size(1) == PART
    assert part_size(10_000 * PART) == PART
    assert part_size(10_000 * PART + 1) == PART + 1
    with pytest.raises(InvalidInput):
        part_size(1, PART - 1)


async def test_an_empty_object_is_refused(store: ObjectStore, bucket_name: str) -> None:
    """It needs no parts."""
    with pytest.raises(InvalidInput):
        await upload(store, bucket_name, "a", source_of(b""))
