"""What is too large, too deep or too slow is refused before a handler runs."""

from __future__ import annotations

import json

import pytest
from fastapi import APIRouter, Request

from scalelab.web import Limits
from tests.unit.core.web.asgi_harness import bench, call

JSON = ("content-type", "application/json")


def echo_router(seen: list[bytes]) -> APIRouter:
    router = APIRouter()

    @router.post("/echo")
    async def echo(request: Request) -> dict[str, int]:
        seen.append(await request.body())
        return {"size": len(seen[-1])}

    @router.get("/echo")
    async def read(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    return router


async def test_body_at_the_limit_passes_whole_and_one_octet_more_does_not() -> None:
    """The limit is inclusive; chunks arrive as one body."""
    seen: list[bytes] = []
    it = bench(echo_router(seen), limits=Limits(body_bytes=10))
    assert (await call(it.app, "POST", "/echo", body=[b"12345", b"", b"67890"])).json == {
        "size": 10
    }
    answer = await call(it.app, "POST", "/echo", body=[b"12345", b"67890", b"x"])
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert seen == [b"1234567890"]


@pytest.mark.parametrize("length", ["11", "9" * 30])
async def test_declared_length_over_the_limit_is_refused_unread(length: str) -> None:
    """Nothing of the body is waited for before the answer; the connection closes after it."""
    it = bench(echo_router([]), limits=Limits(body_bytes=10))
    answer = await call(
        it.app, "POST", "/echo", headers=[("content-length", length)], body=[b"x" * 11]
    )
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    assert answer.complete


async def test_rest_of_a_refused_body_is_taken_in_before_the_connection_closes() -> None:
    """Closing on unread octets resets the connection, and the caller would lose the answer."""
    it = bench(echo_router([]), limits=Limits(body_bytes=10))
    answer = await call(it.app, "POST", "/echo", body=[b"x" * 11, b"more", b"and more"])
    assert (answer.status, answer.received) == (413, 3)
    endless = await call(it.app, "POST", "/echo", body=[b"x" * 11] + [b"x" * 40] * 50)
    assert endless.status == 413
    assert endless.received < 10, "a caller that never stops is not listened to for ever"


async def test_get_with_a_body_is_limited_too() -> None:
    """A method without a body by custom may still send one."""
    it = bench(echo_router([]), limits=Limits(body_bytes=3))
    headers = [("transfer-encoding", "chunked")]
    assert (await call(it.app, "GET", "/echo", headers=headers, body=[b"1234"])).status == 413
    assert (await call(it.app, "GET", "/echo", headers=headers, body=[b"123"])).json == {"size": 3}
    assert (await call(it.app, "GET", "/echo")).json == {"size": 0}


async def test_headers_over_the_limit_are_431() -> None:
    """Names and values count together, over all headers."""
    it = bench(echo_router([]), limits=Limits(header_bytes=100))
    assert (await call(it.app, "GET", "/echo", headers=[("a", "x" * 99)])).status == 200
    answer = await call(it.app, "GET", "/echo", headers=[("a", "x" * 50), ("b", "x" * 49)])
    assert (answer.status, answer.json["code"]) == (431, "header_too_large")


@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
async def test_deep_json_is_malformed(media_type: str) -> None:
    """A parser's recursion is never tried; other media types are not looked into."""
    it = bench(echo_router(seen := []), limits=Limits(json_depth=3))
    deep = [b"[[[", b"[]]]]"]
    answer = await call(it.app, "POST", "/echo", headers=[("content-type", media_type)], body=deep)
    assert (answer.status, answer.json["code"]) == (400, "malformed_json")
    assert seen == []
    fine = json.dumps([[[1], [2], [3]]]).encode()
    assert (await call(it.app, "POST", "/echo", headers=[JSON], body=[fine])).status == 200
    text = [("content-type", "text/plain")]
    assert (await call(it.app, "POST", "/echo", headers=text, body=deep)).status == 200


async def test_body_that_does_not_arrive_is_408() -> None:
    """A caller that sends half and waits holds nothing for long."""
    it = bench(echo_router([]), limits=Limits(body_timeout_s=0.02))
    answer = await call(it.app, "POST", "/echo", body=[b"half"], hang=True)
    assert (answer.status, answer.json["code"]) == (408, "body_timeout")
    assert answer.complete
