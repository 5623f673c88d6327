"""Refuse what is too large, too deep or too slow before any handler sees it.

Bodies are read here, whole, and handed on as one message, so a chunked body is refused at the
byte that breaks the limit. After a refusal the rest is read and thrown away for a moment:
closing at once would reset the connection, and the caller would never see the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scalelab.errors import InvalidInput, TooLarge
from scalelab.web.json_depth import nests_deeper_than
from scalelab.web.problem import from_error, malformed_json
from scalelab.web.problem_response import send_problem


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request. *_bytes: octets; json_depth: levels; body_timeout_s: seconds.

    header_bytes counts names and values as sent, without separators.
    """

    body_bytes: int = 1024 * 1024
    header_bytes: int = 16 * 1024
    json_depth: int = 32
    body_timeout_s: float = 10.0


class ClientGone(Exception):
    """The caller hung up before its request was complete."""


_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_LINGER_S = 2.0
_LINGER_FACTOR = 8


class LimitsMiddleware:
    """Pure ASGI. 431 header_too_large, 413 body_too_large, 408 body_timeout, 400 malformed_json."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size, length, chunked, json_body = 0, b"", False, False
        for name, value in scope["headers"]:
            size += len(name) + len(value)
            if name == b"content-length":
                length = value
            elif name == b"transfer-encoding":
                chunked = True
            elif name == b"content-type":
                json_body = b"json" in value.lower()
        if size > self._limits.header_bytes:
            await self._refuse(
                TooLarge("The headers are too large.", code="header_too_large"),
                scope,
                receive,
                send,
            )
            return
        if not length and not chunked and scope["method"] in _BODILESS:
            await self._app(scope, receive, send)
            return
        if length.isdigit() and int(length[:20]) > self._limits.body_bytes:
            await self._refuse(_body_too_large(), scope, receive, send)
            return
        await self._with_body(json_body, scope, receive, send)

    async def _with_body(self, json_body: bool, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                body, complete = await self._read(receive)
        except TimeoutError:
            error = InvalidInput("The body did not arrive in time.", code="body_timeout")
            await self._refuse(error, scope, None, send)
            return
        if body is None:
            await self._refuse(_body_too_large(), scope, None if complete else receive, send)
        elif json_body and nests_deeper_than(body, self._limits.json_depth):
            await send_problem(malformed_json(), scope, send)
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive) -> tuple[bytes | None, bool]:
        """The body, or None if it is too large; and whether its end has been read."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            complete = not message.get("more_body", False)
            size += len(chunk)
            if size > self._limits.body_bytes:
                return None, complete
            chunks.append(chunk)
            if complete:
                return chunks[0] if len(chunks) == 1 else b"".join(chunks), True

    async def _refuse(
        self, error: TooLarge | InvalidInput, scope: Scope, rest: Receive | None, send: Send
    ) -> None:
        """Answer and close the connection. rest: where octets may still come from."""
        problem = from_error(error)
        headers = {**problem.headers, "connection": "close"}
        closing = replace(problem, headers=headers)
        await send_problem(closing, scope, send, more_body=True)
        if rest is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    await self._discard(rest)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard(self, receive: Receive) -> None:
        left = self._limits.body_bytes * _LINGER_FACTOR
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b"")) or 1
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return


def _body_too_large() -> TooLarge:
    return TooLarge("The body is too large.", code="body_too_large")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive() that gives the body first, then whatever the server says (a disconnect)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
