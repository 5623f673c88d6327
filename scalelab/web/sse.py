"""Server-sent events as a small raw ASGI response.

Theory of operation
    One loop waits for three things at once: the next event, the caller hanging up, the process
    draining. Silence longer than `heartbeat_s` sends a comment, so that proxies keep the
    connection and a dead caller is noticed. The generator is always closed, whatever ends the
    stream. On drain the stream ends cleanly; browsers reconnect with Last-Event-ID elsewhere.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scalelab.errors import InvalidInput
from scalelab.web.lifecycle import Lifecycle


class Encodable(Protocol):
    """Something that knows its bytes on the wire."""

    def encode(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Event:
    """data: any text. id: what the caller sends back as Last-Event-ID. event: its kind.

    retry_ms: how long a caller waits before it reconnects. Raises InvalidInput for an id or
    kind with line breaks or NUL, which would forge further fields.
    """

    data: str
    id: str | None = None
    event: str | None = None
    retry_ms: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("event", self.event)):
            if value is not None and not {"\r", "\n", "\0"}.isdisjoint(value):
                raise InvalidInput("line breaks cannot stand here", field=name)

    def encode(self) -> bytes:
        """The event as it goes over the wire, with its closing empty line."""
        lines: list[str] = []
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.event is not None:
            lines.append(f"event: {self.event}")
        if self.retry_ms is not None:
            lines.append(f"retry: {self.retry_ms}")
        text = self.data.replace("\r\n", "\n").replace("\r", "\n")
        lines.extend(f"data: {line}" for line in text.split("\n"))
        return ("\n".join(lines) + "\n\n").encode()


class EventStream(Response):
    """Answers with the events of an async generator until it ends, the caller goes, or drain.

    heartbeat_s: silence after which a comment is sent. send_timeout_s: how long a caller may
    refuse to read before the connection is given up. A stream of something else than events is a
    subclass with a `media_type` and a `heartbeat` of its own.
    """

    media_type = "text/event-stream"
    heartbeat: ClassVar[bytes] = b": keep-alive\n\n"

    def __init__(
        self,
        events: AsyncGenerator[Encodable, Any],
        *,
        heartbeat_s: float = 15.0,
        send_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifecycle: Lifecycle = scope["app"].state.lifecycle
        gone = asyncio.create_task(_until_gone(receive), name="sse-disconnect")
        drained = asyncio.create_task(lifecycle.draining.wait(), name="sse-drain")
        coming: asyncio.Task[Encodable | None] | None = None
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            while True:
                coming = coming or asyncio.create_task(self._next(), name="sse-next")
                done, _ = await asyncio.wait(
                    {coming, gone, drained},
                    timeout=self._heartbeat_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if gone in done:
                    return
                if coming in done:
                    event, coming = coming.result(), None
                    if event is None:
                        break
                    await self._write(send, event.encode())
                if drained in done:
                    break
                if not done:
                    await self._write(send, self.heartbeat)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _finish([task for task in (coming, gone, drained) if task is not None])
            await self._events.aclose()

    async def _next(self) -> Encodable | None:
        return await anext(self._events, None)

    async def _write(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(self._send_timeout_s):
            await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _finish(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # taken note of: whoever awaited it first has it already
