"""The S3 client against a real server: what is promised, and what a broken store means."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import replace

import psutil
import pytest

from scalelab.clients.s3 import LONGEST_LINK_S, ObjectStore, S3Settings
from scalelab.errors import (
    Conflict,
    CorruptData,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import VersityGw


def settings_of(server: VersityGw) -> S3Settings:
    """Settings for a client with the keys of the root user."""
    return S3Settings(server.endpoint, server.access_key, server.secret_key, read_timeout_s=30.0)


@pytest.fixture
async def store(s3_server: VersityGw, bucket_name: str) -> AsyncIterator[ObjectStore]:
    """A client, and its bucket."""
    async with ObjectStore(settings_of(s3_server)) as store:
        await store.ensure_bucket(bucket_name)
        yield store


def fetch(url: str, *, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a plain request without any keys."""
    asked = urllib.request.Request(url, method=method, data=body)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_what_was_put_comes_back_whole_and_in_part(
    store: ObjectStore, bucket_name: str
) -> None:
    """With its metadata."""
    body = bytes(range(256)) * 40
    await store.put(bucket_name, "a/b", body, metadata={"rows": "7"})
    assert await store.get(bucket_name, "a/b") == body
    assert await store.get_range(bucket_name, "a/b", 250, 10) == body[250:260]
    assert await store.get_range(bucket_name, "a/b", len(body) - 3, 100) == body[-3:]
    found = await store.head(bucket_name, "a/b")
    assert (found.size, found.metadata) == (len(body), {"rows": "7"})


async def test_keys_come_in_order_over_pages(store: ObjectStore, bucket_name: str) -> None:
    """Those of the prefix, and no other."""
    names = [f"p/{n:02d}" for n in range(11)]
    for name in [*names, "q/1"]:
        await store.put(bucket_name, name, b"x")
    assert [key async for key in store.keys(bucket_name, "p/", page=4)] == names


async def test_of_two_that_create_a_key_one_is_refused(
    store: ObjectStore, bucket_name: str
) -> None:
    """The object is that of the other."""

    async def create(body: bytes) -> bytes | None:
        try:
            await store.put(bucket_name, "one", body, only_if_absent=True)
        except Conflict:
            return None
        return body

    won = [body for body in await asyncio.gather(*map(create, (b"a", b"b"))) if body]
    assert won == [await store.get(bucket_name, "one")]


@pytest.mark.parametrize("operation", ["get", "head", "copy"])
async def test_a_missing_object_and_a_missing_bucket_are_told_apart(
    store: ObjectStore, bucket_name: str, operation: str
) -> None:
    """Also by HEAD, whose answer has no body."""

    async def ask(bucket: str) -> str:
        asked = {
            "get": lambda: store.get(bucket, "none"),
            "head": lambda: store.head(bucket, "none"),
            "copy": lambda: store.copy((bucket, "none"), (bucket_name, "copy")),
        }
        with pytest.raises(NotFound) as refused:
            await asked[operation]()
        return refused.value.stable_code

    assert await ask(bucket_name) == "no_such_object"
    assert await ask("no-such-bucket") == "no_such_bucket"


async def test_to_delete_what_is_not_there_is_no_error(
    store: ObjectStore, bucket_name: str
) -> None:
    """So it can be done again."""
    await store.put(bucket_name, "gone", b"x")
    await store.delete(bucket_name, "gone")
    await store.delete(bucket_name, "gone")
    with pytest.raises(NotFound):
        await store.get(bucket_name, "gone")


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
@pytest.mark.parametrize("operation", ["get", "head"])
async def test_wrong_keys_are_named_as_such(
    s3_server: VersityGw, store: ObjectStore, bucket_name: str, wrong: str, operation: str
) -> None:
    """A store that does not know us has not lost the object."""
    await store.put(bucket_name, "there", b"x")
    settings = replace(settings_of(s3_server), **{wrong: "wrong"})
    async with ObjectStore(settings) as stranger:
        with pytest.raises(Unauthenticated):
            await getattr(stranger, operation)(bucket_name, "there")


async def test_a_flipped_bit_is_not_handed_out(
    s3_server: VersityGw, store: ObjectStore, bucket_name: str
) -> None:
    """The checksum that was stored with the object is compared with what comes."""
    await store.put(bucket_name, "damaged", b"all orders of march")
    path = s3_server.objects / bucket_name / "damaged"
    path.write_bytes(b"all orders of narch")
    with pytest.raises(CorruptData) as refused:
        await store.get(bucket_name, "damaged")
    assert refused.value.stable_code == "object_corrupt"


async def test_an_object_over_the_limit_is_not_read(
    s3_server: VersityGw, store: ObjectStore, bucket_name: str
) -> None:
    """Memory is bounded by the reader, not by whoever wrote the object."""
    await store.put(bucket_name, "large", b"x" * 1001)
    async with ObjectStore(replace(settings_of(s3_server), limit_bytes=1000)) as small:
        with pytest.raises(TooLarge):
            await small.get(bucket_name, "large")


async def test_a_link_does_the_one_thing_it_was_made_for(
    store: ObjectStore, bucket_name: str
) -> None:
    """Without it the same request is refused; so is any other with it."""
    await store.put(bucket_name, "a.txt", b"hello")
    await store.put(bucket_name, "b.txt", b"secret")
    reading = store.link("get", bucket_name, "a.txt", expires_s=600)
    assert await asyncio.to_thread(fetch, reading) == (200, b"hello")
    for refused in (
        reading.split("?")[0],
        reading.replace("a.txt", "b.txt"),
        reading.replace("X-Amz-Expires=600", "X-Amz-Expires=6000"),
        reading[:-1] + ("0" if reading[-1] != "0" else "1"),
    ):
        assert (await asyncio.to_thread(fetch, refused))[0] == 403
    status, _ = await asyncio.to_thread(fetch, reading, method="PUT", body=b"mine")
    assert status == 403
    assert await store.get(bucket_name, "a.txt") == b"hello"


async def test_a_link_for_writing_writes_and_does_not_read(
    store: ObjectStore, bucket_name: str
) -> None:
    """A browser uploads past our service, and into this one name only."""
    writing = store.link("put", bucket_name, "upload", expires_s=600)
    assert (await asyncio.to_thread(fetch, writing, method="PUT", body=b"photo"))[0] == 200
    assert await store.get(bucket_name, "upload") == b"photo"
    assert (await asyncio.to_thread(fetch, writing))[0] == 403


async def test_a_link_ends(store: ObjectStore, bucket_name: str) -> None:
    """The server refuses it by its own clock."""
    await store.put(bucket_name, "a", b"hello")
    link = store.link("get", bucket_name, "a", expires_s=1)
    deadline = time.monotonic() + 60
    while (found := await asyncio.to_thread(fetch, link))[0] == 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert found[0] == 403
    assert b"expired" in found[1]


@pytest.mark.parametrize("expires_s", [0, -1, LONGEST_LINK_S + 1])
async def test_a_link_for_ever_or_for_no_time_is_refused(
    store: ObjectStore, bucket_name: str, expires_s: int
) -> None:
    """Before it is signed."""
    with pytest.raises(InvalidInput):
        store.link("get", bucket_name, "a", expires_s=expires_s)


@pytest.fixture
def own_server(own_runtime: Runtime, versitygw_built: None) -> VersityGw:
    """A server of this test alone, to be broken."""
    server = VersityGw()
    own_runtime.start(server)
    return server


async def test_a_killed_server_comes_back_with_its_objects(
    own_runtime: Runtime, own_server: VersityGw
) -> None:
    """While it is away nothing was changed, and that is what the error says."""
    async with ObjectStore(replace(settings_of(own_server), attempts=1)) as store:
        await store.ensure_bucket("kept")
        await store.put("kept", "a", b"hello", metadata={"rows": "1"})
        own_runtime.kill("versitygw")
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await store.get("kept", "a")
        with pytest.raises(Unavailable):  # the old connection is known to be gone by now
            await store.put("kept", "b", b"lost")
        own_runtime.restart("versitygw")
        assert await store.get("kept", "a") == b"hello"
        assert (await store.head("kept", "a")).metadata == {"rows": "1"}
        assert [key async for key in store.keys("kept")] == ["a"]


async def test_a_frozen_server_ends_a_read_and_leaves_a_write_open(
    own_runtime: Runtime, own_server: VersityGw
) -> None:
    """The deadline is the caller's; beyond the bound a call is refused at once."""
    quick = replace(
        settings_of(own_server),
        attempts=1,
        call_timeout_s=0.5,
        read_timeout_s=3.0,
        threads=1,
        waiting=1,
    )
    async with ObjectStore(settings_of(own_server)) as patient, ObjectStore(quick) as store:
        await patient.ensure_bucket("kept")
        own_runtime.pause("versitygw")
        try:
            with pytest.raises(OutcomeUnknown):
                await store.put("kept", "a", b"hello")
            with pytest.raises(DeadlineExceeded):
                await store.get("kept", "a")
            with pytest.raises(Overloaded):
                await store.get("kept", "a")
        finally:
            own_runtime.resume("versitygw")
        await patient.put("kept", "a", b"hello")
        assert await patient.get("kept", "a") == b"hello"


async def test_it_listens_on_this_machine_only_and_nobody_else_may_look_in(
    own_server: VersityGw,
) -> None:
    """Its folders are closed, its keys stand on no command line."""
    assert own_server.objects.stat().st_mode & 0o077 == 0
    found = [
        one
        for one in psutil.process_iter(["cmdline"])
        if str(own_server.objects) in (one.info["cmdline"] or ())
    ]
    assert found
    for one in found:
        line = " ".join(one.info["cmdline"])
        assert own_server.secret_key not in line
        assert f"127.0.0.1:{own_server.port}" in line
