"""A real peer on each side of the gateway: an upstream that parses with h11, and a raw client.

h11 is another parser than the gateway's, on purpose: where the two would read a stream in
different ways, the counts of requests sent and seen differ.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11

from month1_caching_gateway.gateway import Endpoint, Gateway, GatewaySettings, Route, Upstream
from month1_caching_gateway.gateway.admission import RateLimiter, Rates, no_keys
from month1_caching_gateway.gateway.api_keys import KeyRing
from month1_caching_gateway.gateway.identity import Verifier
from month1_caching_gateway.ratelimit import Limiter, Limiters, MemoryStore
from scalelab.clock import Clock, SystemClock
from scalelab.errors import Unauthenticated
from scalelab.security import Principal
from scalelab.telemetry import Telemetry, TelemetrySettings, build_telemetry

DEADLINE_S = 20.0


async def until(claim: Callable[[], bool], what: str = "the claim") -> None:
    """Poll until `claim` holds; fail after the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not claim():  # noqa: ASYNC110 - what is awaited happens in another party
            await asyncio.sleep(0.002)
    assert claim(), what


@dataclass
class Seen:
    """One request as the upstream's parser understood it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        return ",".join(found) if found else None

    def names(self) -> set[str]:
        return {key for key, _ in self.headers}


Answer = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]


def plain(status: int, body: bytes, *headers: tuple[str, str]) -> bytes:
    """A whole answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def echo(seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Says what it saw; keeps the connection."""
    body = json.dumps(
        {
            "method": seen.method,
            "target": seen.target,
            "headers": seen.headers,
            "body": len(seen.body),
        }
    ).encode()
    writer.write(plain(200, b"" if seen.method == "HEAD" else body))
    await writer.drain()
    return True


@dataclass
class Peer:
    """An upstream. `answer` decides per request; returning False closes the connection."""

    answer: Answer = echo
    whole_bodies: bool = True
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    bad_streams: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Stop listening and cut every connection, as a killed process would."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = h11.Connection(h11.SERVER)
        try:
            while (seen := await self._request(parser, reader)) is not None:
                self.seen.append(seen)
                if not await self.answer(seen, reader, writer) or not self.whole_bodies:
                    return
                parser = self._next(parser)
        except h11.RemoteProtocolError:
            self.bad_streams += 1
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    @staticmethod
    def _next(parser: h11.Connection) -> h11.Connection:
        after = h11.Connection(h11.SERVER)
        if parser.trailing_data[0]:
            after.receive_data(parser.trailing_data[0])
        return after

    async def _request(self, parser: h11.Connection, reader: asyncio.StreamReader) -> Seen | None:
        seen: Seen | None = None
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                if not data:
                    return None
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
                seen = Seen(event.method.decode(), event.target.decode(), headers)
                if not self.whole_bodies:
                    return seen
            elif isinstance(event, h11.Data) and seen is not None:
                seen.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return seen


@asynccontextmanager
async def peer(answer: Answer = echo, *, whole_bodies: bool = True) -> AsyncIterator[Peer]:
    made = Peer(answer, whole_bodies)
    await made.listen()
    try:
        yield made
    finally:
        await made.die()


class OneUser:
    """A verifier that knows one token; stands for the real one where tokens are not the subject."""

    async def verify(self, token: str | None) -> Principal:
        if token != "good":
            raise Unauthenticated("unknown token", code="token_invalid")
        now = SystemClock().now()
        return Principal("user-1", frozenset({"shop"}), None, "t", now)


@dataclass
class Running:
    """A gateway under test, and where it listens."""

    gateway: Gateway
    port: int
    telemetry: Telemetry
    lines: list[bytes]

    def metric(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in b"".join(self.lines).splitlines()]


@asynccontextmanager
async def running(
    upstreams: list[Peer] | dict[str, list[Peer]],
    routes: Iterable[Route] | None = None,
    *,
    settings: GatewaySettings | None = None,
    verifier: Verifier | None = None,
    limiter: RateLimiter | Limiters | None = None,
    rates: Rates | None = None,
    keys: Callable[[], KeyRing] = no_keys,
    clock: Clock | None = None,
    trace_export: str = "none",
    **described: Any,
) -> AsyncIterator[Running]:
    """A started gateway in front of `upstreams` (a list stands for one upstream named 'app').

    described: more fields of each `Upstream`.
    """
    clock = clock or SystemClock()
    named = upstreams if isinstance(upstreams, dict) else {"app": upstreams}
    telemetry = build_telemetry(TelemetrySettings("gateway", trace_export=trace_export))
    lines: list[bytes] = []
    every = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
    gateway = Gateway(
        settings or GatewaySettings(sweep_s=0.01, log_flush_s=0.01),
        routes or [Route("app", prefix="/", auth="none", methods=every)],
        [
            Upstream(name, tuple(Endpoint("127.0.0.1", one.port) for one in peers), **described)
            for name, peers in named.items()
        ],
        verifier or OneUser(),
        Limiter(MemoryStore(clock), clock) if limiter is None else limiter,
        telemetry,
        clock,
        rates=rates,
        keys=keys,
        log_sink=lines.append,
    )
    port = await gateway.start("127.0.0.1", 0)
    try:
        yield Running(gateway, port, telemetry, lines)
    finally:
        await gateway.stop()
        telemetry.shutdown()


@dataclass
class Got:
    """An answer as h11 understood it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, object]:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)

    @property
    def code(self) -> object:
        return self.problem["code"]

    def json(self) -> dict[str, object]:
        return json.loads(self.body)


class RawClient:
    """Sends exactly the bytes it is told to; reads answers with h11."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._left = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, to: str = "GET") -> Got:
        """The next whole answer. Raises EOFError if the connection ends before it."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=to, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._left:
            parser.receive_data(self._left)
        status, headers, body = 0, {}, b""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    event = parser.next_event()
                except h11.RemoteProtocolError as error:
                    raise EOFError(str(error)) from error
                if event is h11.NEED_DATA:
                    try:
                        parser.receive_data(await self.reader.read(65536))
                    except ConnectionError as error:
                        raise EOFError from error
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {n.decode(): v.decode("latin-1") for n, v in event.headers}
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._left = parser.trailing_data[0]
                    return Got(status, headers, body)
                elif isinstance(event, h11.ConnectionClosed):
                    raise EOFError

    async def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        **headers: str,
    ) -> Got:
        """One request with good manners, and its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b""))
        return await self.answer(to=method)

    async def closed(self) -> bytes:
        """What still comes until the gateway closes; fails if it does not."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return self._left + await self.reader.read()
            except ConnectionError:
                return self._left

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def client(port: int, *, limit: int = 2**16) -> AsyncIterator[RawClient]:
    made = RawClient(*await asyncio.open_connection("127.0.0.1", port, limit=limit))
    try:
        yield made
    finally:
        made.close()
