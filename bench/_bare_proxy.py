"""The floor under a Python gateway: uvloop and httptools on both sides, and no duty kept.

It reads heads with httptools, writes them anew, and keeps idle connections; nothing more. No limit,
no deadline, no back-pressure, no log, no count, no check of what could be read in two ways. So it
is no gateway: it is what a gateway on this loop and this parser cannot do better than, and our
share of it says what all those duties cost.
"""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

_END = b"\r\n\r\n"


class _Reader:
    """What httptools calls for a head."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


class BareUpstream(asyncio.Protocol):
    """A connection to the service; `client` waits for its answer."""

    client: BareProxy | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader = _Reader()
        parser = httptools.HttpResponseParser(reader)
        parser.feed_data(data)
        parts = [b"HTTP/1.1 %d OK\r\n" % parser.get_status_code()]
        parts += [b"%b: %b\r\n" % header for header in reader.headers]
        parts += [b"\r\n", data[data.index(_END) + 4 :]]
        client = self.client
        if client is not None:
            client.idle.append(self)
            client.transport.write(b"".join(parts))


class BareProxy(asyncio.Protocol):
    """A client's connection. Requests without a body, one at a time; answers in one piece."""

    def __init__(self, port: int, idle: list[BareUpstream]) -> None:
        self._port = port
        self.idle = idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader = _Reader()
        parser = httptools.HttpRequestParser(reader)
        parser.feed_data(data)
        parts = [b"%b %b HTTP/1.1\r\n" % (parser.get_method(), reader.url)]
        parts += [b"%b: %b\r\n" % header for header in reader.headers]
        parts.append(b"\r\n")
        request = b"".join(parts)
        if self.idle:
            self._ask(self.idle.pop(), request)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open(request))

    async def _open(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(BareUpstream, "127.0.0.1", self._port)
        self._ask(upstream, request)

    def _ask(self, upstream: BareUpstream, request: bytes) -> None:
        upstream.client = self
        upstream.transport.write(request)
