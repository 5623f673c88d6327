"""Event streams: the wire format, and every way a stream can end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import APIRouter, Request, Response

from scalelab.errors import InvalidInput
from scalelab.web import Event, EventStream, lifecycle_of
from tests.unit.core.web.asgi_harness import Answer, Bench, bench, call


def stream_of(events: AsyncGenerator[Event, Any], **options: float) -> Bench:
    router = APIRouter()

    @router.get("/events", response_model=None)
    async def stream(_request: Request) -> Response:
        return EventStream(events, **options)

    return bench(router)


async def until(answer: Answer, text: bytes) -> None:
    async with asyncio.timeout(60):
        while text not in answer.body:  # noqa: ASYNC110 - the harness has no event to offer
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (Event("a"), b"data: a\n\n"),
        (Event(""), b"data: \n\n"),
        (Event("a\nb\r\nc\rd"), b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (
            Event("\u00e9", id="7", event="paid", retry_ms=500),
            b"id: 7\nevent: paid\nretry: 500\ndata: \xc3\xa9\n\n",
        ),
    ],
    ids=["plain", "empty", "lines", "all-fields"],
)
def test_wire_format(event: Event, wire: bytes) -> None:
    """Line breaks of any kind stay inside data lines."""
    assert event.encode() == wire


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_id_and_kind_cannot_forge_fields(text: str) -> None:
    """An id with a line break would be two fields."""
    with pytest.raises(InvalidInput):
        Event("x", id=text)
    with pytest.raises(InvalidInput):
        Event("x", event=text)


async def test_stream_ends_with_its_generator() -> None:
    """Events in order, headers that keep proxies from buffering, and a proper end."""

    async def events() -> AsyncGenerator[Event, None]:
        yield Event("1", id="1")
        yield Event("2", id="2")

    answer = await call(stream_of(events()).app, "GET", "/events")
    assert answer.body == b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n\n"
    assert answer.complete
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers


async def test_silence_is_filled_with_comments_and_loses_no_event() -> None:
    """A heartbeat does not cancel the event that is being waited for."""
    gate = asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        await gate.wait()
        yield Event("late")

    answer = Answer()
    it = stream_of(events(), heartbeat_s=0.005)
    task = asyncio.create_task(call(it.app, "GET", "/events", answer=answer))
    await until(answer, b": keep-alive\n\n: keep-alive\n\n")
    gate.set()
    await task
    assert answer.body.endswith(b"data: late\n\n")


async def test_drain_ends_the_stream_cleanly() -> None:
    """The answer is complete, the generator has cleaned up, nothing hangs."""
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Event("first")
            await asyncio.Event().wait()
        finally:
            closed.set()

    answer = Answer()
    it = stream_of(events())
    task = asyncio.create_task(call(it.app, "GET", "/events", answer=answer))
    await until(answer, b"first")
    lifecycle_of(it.app).begin_drain()
    async with asyncio.timeout(60):
        await task
    assert answer.complete
    assert closed.is_set()


async def test_cancelled_stream_cleans_up_and_stays_cancelled() -> None:
    """Cancellation is passed on after the generator was closed."""
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Event("first")
            await asyncio.Event().wait()
        finally:
            closed.set()

    answer = Answer()
    task = asyncio.create_task(call(stream_of(events()).app, "GET", "/events", answer=answer))
    await until(answer, b"first")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()


async def test_failing_generator_breaks_the_stream_and_is_logged() -> None:
    """Half a stream must not look like a whole one."""

    async def events() -> AsyncGenerator[Event, None]:
        yield Event("first")
        raise KeyError("broken")

    answer = Answer()
    it = stream_of(events())
    with pytest.raises(KeyError):
        await call(it.app, "GET", "/events", answer=answer)
    assert not answer.complete
    assert any("KeyError" in line.get("exception", "") for line in it.lines)


async def test_generator_is_closed_when_sending_fails() -> None:
    """Not left suspended at its yield until the garbage collector comes."""
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[Event, None]:
        try:
            yield Event("first")
        finally:
            closed.set()

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("broken pipe")

    app = bench(APIRouter()).app
    with pytest.raises(OSError, match="broken pipe"):
        await EventStream(events())({"type": "http", "app": app}, receive, send)
    assert closed.is_set()
