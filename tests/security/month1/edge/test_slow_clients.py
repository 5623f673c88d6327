"""Six ways to hold a connection without using it: the edge ends all, honest callers are served.

The edge's limits are two seconds here instead of ten. Nothing is timed: each attack is polled until
its connection ends, and honest requests are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from month1_caching_gateway.edge import ClientLimits
from tests.fixtures.tiers import Count
from tests.integration.month1.gateway.harness import RawClient, Seen, client
from tests.security.month1.edge.conftest import Chain

LIMITS = ClientLimits(head_s=2, silence_s=2, idle_s=2, connections=2000)
DEADLINE_S = 60.0
HEAD = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
BIG = 48 * 1024 * 1024


async def drip(http: RawClient, data: bytes, *, every_s: float) -> None:
    """A byte at a time, until the other side has had enough."""
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            if http.writer.is_closing():
                return
            await http.send(data[at : at + 1])
            await asyncio.sleep(every_s)


async def nothing(_http: RawClient) -> None:
    """Connect and wait."""


async def half_a_head(http: RawClient) -> None:
    """Begin a head and stop."""
    await http.send(HEAD)


async def dripped_head(http: RawClient) -> None:
    """New bytes of a head, again and again."""
    await drip(http, HEAD + b"X: " + b"y" * 100_000, every_s=0.1)


async def stopped_body(http: RawClient) -> None:
    """Promise a body, send some, stop."""
    await http.send(POST + b"x" * 1000)


async def dripped_body(http: RawClient) -> None:
    """Never silent for long, and never done: nginx would wait, the gateway measures the speed."""
    await http.send(POST)
    await drip(http, b"x" * 100_000, every_s=0.1)


async def idle_after_a_request(http: RawClient) -> None:
    """A half-open connection: the other side of an honest one has vanished."""
    with contextlib.suppress(EOFError):
        assert (await http.ask("GET", "/slow")).status == 200


ATTACKS: dict[str, Callable[[RawClient], Awaitable[None]]] = {
    "no-bytes": nothing,
    "partial-head": half_a_head,
    "dripped-head": dripped_head,
    "stopped-body": stopped_body,
    "dripped-body": dripped_body,
    "half-open": idle_after_a_request,
}


async def ended(http: RawClient) -> None:
    """Read until the edge ends the connection."""
    with contextlib.suppress(ConnectionError):
        while await http.reader.read(65536):
            pass


async def attack(port: int, kind: str) -> None:
    """One connection of an attack, from its start until the edge has ended it."""
    async with client(port) as http, asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        sending = group.create_task(as_task(ATTACKS[kind](http)))
        await sending if kind == "half-open" else await asyncio.sleep(0)
        await ended(http)
        sending.cancel()


async def as_task(work: Awaitable[None]) -> None:
    """A coroutine of an awaitable, as tasks want it; a lost connection is what is waited for."""
    with contextlib.suppress(ConnectionError):
        await work


@contextlib.asynccontextmanager
async def honest_callers(port: int) -> AsyncIterator[list[int]]:
    """Somebody who asks again and again meanwhile; the statuses they got."""
    statuses: list[int] = []

    async def ask() -> None:
        while True:
            # On a busy machine this process itself may be too slow for limits this short: then
            # the edge ends the connection without an answer, and an honest caller asks again.
            with contextlib.suppress(EOFError, ConnectionError):
                async with client(port) as http:
                    statuses.append((await http.ask("GET", "/honest")).status)
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    try:
        yield statuses
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("kind", sorted(ATTACKS))
async def test_a_slow_client_is_ended_while_honest_ones_are_served(
    chain: Chain, count: Count, kind: str
) -> None:
    """Every attacking connection ends; every honest request is 200; the server saw no half one."""
    attackers = count(200, share=0.15)
    async with honest_callers(chain.edge.port) as statuses:
        await asyncio.gather(*(attack(chain.edge.port, kind) for _ in range(attackers)))
    assert statuses
    assert set(statuses) == {200}
    slow = [seen for seen in chain.app.seen if seen.target == "/slow"]
    assert len(slow) <= (attackers if kind == "half-open" else 0)


async def test_a_client_that_does_not_read_is_ended(chain: Chain) -> None:
    """The sixth: an answer of 48 MiB to somebody who takes none of it."""
    sent = asyncio.Event()

    async def fountain(
        seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        size = BIG if seen.target == "/big" else 2
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sent.set()
        for _ in range(0, size, 65536):
            writer.write(b"x" * min(size, 65536))
            await writer.drain()
        return True

    usual, chain.app.answer = chain.app.answer, fountain
    try:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", chain.edge.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        writer.write(HEAD.replace(b"/slow", b"/big") + b"\r\n")
        await asyncio.wait_for(sent.wait(), DEADLINE_S)
        async with honest_callers(chain.edge.port) as statuses, asyncio.timeout(DEADLINE_S):
            while not chain.gateway.metric("gateway_events_total", kind="client_gone"):
                if _reset(sock):
                    break
                await asyncio.sleep(0.05)
        assert set(statuses) == {200}
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(BIG)
        writer.transport.abort()
    finally:
        chain.app.answer = usual


def _reset(sock: socket.socket) -> bool:
    """Whether the other side has reset the connection, without reading from it."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
