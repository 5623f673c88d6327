"""What clients see when a service dies, hangs, answers nonsense or is overrun."""

from __future__ import annotations

import asyncio

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from scalelab.clock import ManualClock
from scalelab.resilience import BreakerPolicy
from tests.integration.month1.gateway.harness import (
    Peer,
    Seen,
    client,
    echo,
    peer,
    plain,
    running,
    until,
)

SETTINGS = GatewaySettings(
    sweep_s=0.01, breaker=BreakerPolicy(failure_ratio=0.7, min_calls=4, open_s=5.0, probes=1)
)


async def test_a_dead_service_is_503_then_the_breaker_opens_then_it_recovers() -> None:
    """Refused connections are told as such; after three the breaker answers; a probe closes it."""
    clock = ManualClock()
    async with (
        peer() as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        assert (await http.ask("GET", "/")).status == 200
        await app.die()
        for _ in range(3):
            got = await http.ask("GET", "/")
            assert (got.status, got.code) == (503, "upstream_unavailable")
            assert int(got.headers["retry-after"]) >= 1
        got = await http.ask("GET", "/")
        assert (got.status, got.code) == (503, "breaker_open")
        assert int(got.headers["retry-after"]) >= 1
        assert gateway.metric("gateway_breaker_phase", upstream="app") == 2.0
        reborn = Peer()
        await reborn.listen(app.port)
        assert (await http.ask("GET", "/")).code == "breaker_open"
        clock.advance(6.0)
        assert (await http.ask("GET", "/")).status == 200
        assert gateway.metric("gateway_breaker_phase", upstream="app") == 0.0
        await reborn.die()


async def test_a_silent_service_is_504_and_the_client_stays_connected() -> None:
    """The route's deadline runs from the end of the request; the late connection is not reused."""
    clock = ManualClock()
    never = asyncio.Event()

    async def answer(seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        if seen.target == "/hang":
            await never.wait()
        return await echo(seen, r, w)

    async with (
        peer(answer) as app,
        running([app], settings=SETTINGS, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: len(app.seen) == 1)
        clock.advance(5.5)
        got = await http.answer()
        assert (got.status, got.code) == (504, "upstream_timeout")
        assert (await http.ask("GET", "/")).status == 200
        assert app.connections == 2


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 100\r\n\r\npartial", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal"],
    ids=["length", "chunked"],
)
async def test_a_service_that_dies_in_its_answer_ends_the_clients_connection(head: bytes) -> None:
    """E2: half an answer is never taken for a whole one."""

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await writer.drain()
        return False

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        with pytest.raises(EOFError):
            await http.ask("GET", "/")


def dies_on_its_second_request(served: dict[asyncio.StreamReader, int]) -> object:
    """Answers the first request of each connection, and cuts it at the second without a byte."""

    async def answer(seen: Seen, reader: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        served[reader] = served.get(reader, 0) + 1
        return served[reader] == 1 and await echo(seen, reader, w)

    return answer


@pytest.mark.parametrize(
    ("method", "headers", "status", "sent"),
    [
        ("GET", {}, 200, 3),
        ("PUT", {}, 200, 3),
        ("POST", {"Idempotency_Key": "k-1"}, 200, 3),
        ("POST", {}, 502, 2),
    ],
    ids=["get", "put", "post-with-key", "post-without-key"],
)
async def test_a_lost_idle_connection_is_replaced_once_where_that_is_safe(
    method: str, headers: dict[str, str], status: int, sent: int
) -> None:
    """E3: the second sending needs an idempotent method or a key."""
    answer = dies_on_its_second_request({})
    async with (
        peer(answer) as app,  # type: ignore[arg-type]
        running([app]) as gateway,
        client(gateway.port) as http,
    ):
        assert (await http.ask("GET", "/first")).status == 200
        body = None if method == "GET" else b"body"
        got = await http.ask(method, "/second", body, **headers)
        assert got.status == status
        if status != 200:
            assert got.code == "upstream_closed"
        assert len(app.seen) == sent


async def test_a_new_connection_that_dies_is_not_tried_again() -> None:
    """E3: only a reused connection may have died before it saw the request."""

    async def answer(_s: Seen, _r: asyncio.StreamReader, _w: asyncio.StreamWriter) -> bool:
        return False

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        got = await http.ask("GET", "/")
        assert (got.status, got.code) == (502, "upstream_closed")
        assert len(app.seen) == 1


@pytest.mark.parametrize(
    "answer_bytes",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
    ],
    ids=["nonsense", "cl-te", "two-cl", "te-list", "101", "huge-head"],
)
async def test_an_answer_that_cannot_be_read_is_502(answer_bytes: bytes) -> None:
    """Nothing of it reaches the client, and the upstream connection is gone."""

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer_bytes)
        await writer.drain()
        return True

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        for attempt in (1, 2):
            got = await http.ask("GET", "/")
            assert (got.status, got.code) == (502, "bad_gateway")
            assert app.connections == attempt


async def test_bytes_after_an_answer_never_reach_the_next_request() -> None:
    """Response smuggling: an answer with a tail costs the upstream connection."""

    async def answer(seen: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(plain(200, seen.target.encode()) + plain(200, b"evil"))
        await writer.drain()
        return True

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        for number in range(3):
            assert (await http.ask("GET", f"/{number}")).body == f"/{number}".encode()
        assert app.connections == 3


async def test_more_requests_than_connections_wait_in_order_and_the_rest_is_refused() -> None:
    """Two connections, one place in the queue: of four, one is refused, three are answered."""
    may_go = asyncio.Event()

    async def answer(seen: Seen, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        await may_go.wait()
        return await echo(seen, r, w)

    async with (
        peer(answer) as app,
        running([app], max_connections=2, max_waiting=1) as gateway,
        client(gateway.port) as a,
        client(gateway.port) as b,
        client(gateway.port) as c,
        client(gateway.port) as d,
    ):
        clients = (a, b, c, d)
        asked = [asyncio.create_task(one.ask("GET", "/")) for one in clients]
        await until(lambda: len(app.seen) == 2 and any(task.done() for task in asked))
        refused = next(task for task in asked if task.done()).result()
        assert (refused.status, refused.code) == (503, "upstream_busy")
        may_go.set()
        answers = await asyncio.gather(*asked)
        assert sorted(one.status for one in answers) == [200, 200, 200, 503]
        assert app.connections == 2


async def test_an_early_answer_to_an_upload_is_delivered() -> None:
    """A service may refuse before it has read everything; its answer is the client's answer."""

    async def answer(_s: Seen, reader: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        w.write(plain(409, b"no"))
        await w.drain()
        await reader.read()
        return False

    async with (
        peer(answer, whole_bodies=False) as app,
        running([app]) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nab")
        got = await http.answer()
        assert (got.status, got.body, got.headers["connection"]) == (409, b"no", "close")
        assert len(app.seen) == 1


async def test_a_client_that_goes_away_stops_the_work() -> None:
    """The upstream connection is cut, so that a service can notice."""
    cut = asyncio.Event()

    async def answer(_s: Seen, reader: asyncio.StreamReader, _w: asyncio.StreamWriter) -> bool:
        try:
            await reader.read()
        finally:
            cut.set()
        return False

    routes = [Route("app", prefix="/", auth="none", streaming=True)]
    async with peer(answer) as app, running([app], routes) as gateway:
        async with client(gateway.port) as http:
            await http.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: len(app.seen) == 1)
        async with asyncio.timeout(20):
            await cut.wait()
        await until(lambda: bool(gateway.lines))
        assert gateway.records()[0]["status"] == 499


async def test_a_service_that_asks_to_come_back_is_not_taken_for_dead() -> None:
    """503 with Retry-After passes through for ever; without it the breaker opens."""
    told = [("retry-after", "1")]

    async def answer(seen: Seen, _r: asyncio.StreamReader, w: asyncio.StreamWriter) -> bool:
        w.write(plain(503, b"{}", *(told if seen.target == "/later" else [])))
        await w.drain()
        return True

    async with (
        peer(answer) as app,
        running([app], settings=SETTINGS, clock=ManualClock()) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(12):
            assert (await http.ask("GET", "/later")).headers["retry-after"] == "1"
        assert gateway.metric("gateway_breaker_phase", upstream="app") == 0.0
        for _ in range(12):
            await http.ask("GET", "/failing")
        assert (await http.ask("GET", "/later")).code == "breaker_open"
