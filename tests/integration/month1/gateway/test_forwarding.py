"""Requests go to the right upstream and answers come back whole."""

from __future__ import annotations

import asyncio
import hashlib

from month1_caching_gateway.gateway import GatewaySettings, Route
from tests.integration.month1.gateway.harness import (
    Seen,
    client,
    echo,
    peer,
    plain,
    running,
    until,
)


async def test_a_request_reaches_the_upstream_of_its_route() -> None:
    """Template, prefix and method decide; the other upstream sees nothing."""
    async with peer() as orders, peer() as catalog:
        routes = [
            Route("orders", template="/orders/{id}", auth="none"),
            Route("catalog", prefix="/products", auth="none"),
        ]
        async with (
            running({"orders": [orders], "catalog": [catalog]}, routes) as gateway,
            client(gateway.port) as http,
        ):
            got = await http.ask("GET", "/orders/7?x=a%20b")
            assert (got.status, got.json()["target"]) == (200, "/orders/7?x=a%20b")
            assert len(orders.seen) == 1
            assert catalog.seen == []
            await http.ask("GET", "/products/p-1")
            assert [seen.target for seen in catalog.seen] == ["/products/p-1"]


async def test_an_unknown_path_is_404_and_a_wrong_method_405_with_allow() -> None:
    """Both are problem documents, and the connection lives on."""
    async with peer() as app:
        routes = [Route("app", template="/a", methods=frozenset({"GET", "POST"}), auth="none")]
        async with running([app], routes) as gateway, client(gateway.port) as http:
            unknown = await http.ask("GET", "/b")
            assert (unknown.status, unknown.code) == (404, "unknown_route")
            assert unknown.problem["request_id"] == unknown.headers["x-request-id"]
            wrong = await http.ask("DELETE", "/a")
            assert (wrong.status, wrong.code) == (405, "method_not_allowed")
            assert wrong.headers["allow"] == "GET, HEAD, POST"
            assert (await http.ask("GET", "/a")).status == 200
            assert len(app.seen) == 1


async def test_keep_alive_connections_are_reused_on_both_sides() -> None:
    """Twenty requests on one client connection need one upstream connection."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        for number in range(20):
            assert (await http.ask("GET", f"/{number}")).status == 200
        assert len(app.seen) == 20
        assert app.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    """A slow first answer does not let the second pass it, and the bodies stay apart."""
    first_may_go = asyncio.Event()

    async def answer(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if seen.target == "/0":
            await first_may_go.wait()
        return await echo(seen, reader, writer)

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        wire = b"".join(
            b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (number, number, b"x" * number)
            for number in range(12)
        )
        await http.send(wire)
        await until(lambda: len(app.seen) == 1)
        first_may_go.set()
        answers = [(await http.answer()).json() for _ in range(12)]
        assert [one["target"] for one in answers] == [f"/{n}" for n in range(12)]
        assert [one["body"] for one in answers] == list(range(12))


async def test_head_204_and_304_have_no_body_and_keep_the_connection() -> None:
    """The next request on the connection is read from the right place."""

    async def answer(seen: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if seen.target == "/204":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif seen.target == "/304":
            writer.write(b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\ncontent-length: 9\r\n\r\n')
        else:
            head = seen.method == "HEAD"
            writer.write(plain(200, b"123456789")[: -9 if head else None])
        return True

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        for method, target in (("HEAD", "/"), ("GET", "/204"), ("GET", "/304"), ("GET", "/")):
            got = await http.ask(method, target)
            assert got.body == (b"123456789" if (method, target) == ("GET", "/") else b"")
            if method == "HEAD":
                assert got.headers["content-length"] == "9"
        assert app.connections == 1


async def test_a_chunked_upload_arrives_whole_and_chunked() -> None:
    """The chunks are read and written anew; the payload is the same."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"5;a=b\r\nhel", b"lo\r", b"\n6\r\n world\r\n0", b"\r\n\r\n"):
            await http.send(piece)
        assert (await http.answer()).status == 200
        assert app.seen[0].body == b"hello world"
        assert app.seen[0].header("transfer-encoding") == "chunked"


async def test_an_answer_until_close_becomes_chunked_and_keeps_the_client() -> None:
    """An upstream that tells the end by closing costs its connection, not the client's."""

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await writer.drain()
        writer.write_eof()
        await _r.read()
        return False

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        for _ in range(2):
            got = await http.ask("GET", "/")
            assert got.body == b"all of it"
            assert got.headers["transfer-encoding"] == "chunked"
        assert app.connections == 2


async def test_http_1_0_clients_get_no_chunks() -> None:
    """A chunked answer goes to HTTP/1.0 as it is, ended by closing."""

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        return True

    async with peer(answer) as app, running([app]) as gateway, client(gateway.port) as http:
        await http.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        head, _, body = (await http.closed()).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"Connection: close" in head
        assert body == b"abc"
        assert len(app.seen) == 1


async def test_expect_100_continue_is_answered_only_to_admitted_requests() -> None:
    """The body is asked for after the checks; a refused request never sends it."""
    routes = [Route("app", template="/a", methods=frozenset({"POST"}), auth="user")]
    head = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
    async with peer() as app, running([app], routes) as gateway:
        async with client(gateway.port) as http:
            await http.send(head + b"Authorization: Bearer good\r\n\r\n")
            assert await http.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await http.send(b"hello")
            assert (await http.answer()).status == 200
            assert app.seen[0].body == b"hello"
            assert app.seen[0].header("expect") is None
        async with client(gateway.port) as http:
            await http.send(head + b"\r\n")
            got = await http.answer()
            assert (got.status, got.headers["connection"]) == (401, "close")
            await http.closed()
        assert len(app.seen) == 1


async def test_twenty_megabytes_pass_both_ways_unchanged() -> None:
    """A chunked upload and a chunked download, compared by digest."""
    block = bytes(range(256)) * 1024
    blocks = 80

    async def answer(seen: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if seen.method == "POST":
            writer.write(plain(200, hashlib.sha256(seen.body).hexdigest().encode()))
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(blocks):
            writer.write(b"%x\r\n%b\r\n" % (len(block), block))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return True

    digest = hashlib.sha256(block * blocks).hexdigest()
    routes = [
        Route(
            "app",
            prefix="/",
            methods=frozenset({"GET", "POST"}),
            auth="none",
            max_body_bytes=32 * 1024 * 1024,
            timeout_s=20.0,
        )
    ]
    async with peer(answer) as app, running([app], routes) as gateway, client(gateway.port) as http:
        await http.send(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % (len(block) * blocks)
        )
        for _ in range(blocks):
            await http.send(block)
        assert (await http.answer()).body.decode() == digest
        got = await http.ask("GET", "/")
        assert hashlib.sha256(got.body).hexdigest() == digest


async def test_events_arrive_one_by_one() -> None:
    """Each event is there before the next one is made: nothing waits for a fuller buffer."""
    heard = asyncio.Event()

    async def answer(_s: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for number in range(5):
            event = b"id: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await heard.wait()
            heard.clear()
        writer.write(b"0\r\n\r\n")
        return True

    routes = [Route("app", prefix="/", auth="none", streaming=True)]
    async with peer(answer) as app, running([app], routes) as gateway, client(gateway.port) as http:
        await http.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(20):
            await http.reader.readuntil(b"\r\n\r\n")
            for number in range(5):
                assert f"id: {number}".encode() in await http.reader.readuntil(b"\n\n")
                heard.set()


async def test_endpoints_of_an_upstream_take_turns() -> None:
    """Round robin over fresh connections; a dead endpoint is passed over without an error."""
    async with (
        peer() as one,
        peer() as two,
        running([one, two]) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(10):
            await http.ask("GET", "/")
        assert (len(one.seen), len(two.seen)) == (5, 5)
        await one.die()
        for _ in range(10):
            assert (await http.ask("GET", "/")).status == 200
        assert len(two.seen) == 15


async def test_every_request_leaves_a_log_line_and_is_counted() -> None:
    """The line carries ids and timings and neither query nor token; metrics carry the template."""
    routes = [Route("app", template="/orders/{id}")]
    async with peer() as app, running([app], routes) as gateway, client(gateway.port) as http:
        got = await http.ask("GET", "/orders/7?card=4242", Authorization="Bearer good")
        await http.ask("GET", "/orders/8")
        await until(lambda: len(gateway.lines) > 0 and len(gateway.records()) == 2)
        line, refused = gateway.records()
        assert line["request_id"] == got.headers["x-request-id"]
        assert (line["route"], line["status"], line["subject"]) == ("/orders/{id}", 200, "user-1")
        assert app.seen[0].header("x-request-id") == line["request_id"]
        assert f"-{line['trace_id']}-" in f"-{(app.seen[0].header('traceparent') or '')[3:]}"
        assert (refused["status"], refused["code"], refused["upstream"]) == (
            401,
            "token_invalid",
            "",
        )
        assert b"4242" not in b"".join(gateway.lines)
        assert b"good" not in b"".join(gateway.lines)
        labels = {"route": "/orders/{id}", "method": "GET"}
        assert gateway.metric("gateway_requests_total", status="200", **labels) == 1
        assert gateway.metric("gateway_requests_total", status="401", **labels) == 1
        assert gateway.metric("gateway_breaker_phase", upstream="app") == 0


async def test_what_was_no_request_is_logged_and_counted_too() -> None:
    """Attacks on the framing are visible: status, code and address, and nothing of the bytes."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.send(b"GET /secret HTTP/1.1\r\nHost : localhost\r\n\r\n")
        assert (await http.answer()).status == 400
        await until(lambda: bool(gateway.lines))
        (line,) = gateway.records()
        assert (line["status"], line["code"], line["client"]) == (400, "bad_request", "127.0.0.1")
        assert b"secret" not in gateway.lines[0]
        assert gateway.metric("gateway_requests_total", route="-", method="-", status="400") == 1
        assert app.seen == []


async def test_stop_finishes_what_runs_and_refuses_what_comes() -> None:
    """Drain: an answer under way arrives whole with `Connection: close`; idle connections go."""
    may_go = asyncio.Event()

    async def answer(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if seen.target == "/slow":
            await may_go.wait()
        return await echo(seen, reader, writer)

    settings = GatewaySettings(sweep_s=0.01)
    async with peer(answer) as app, running([app], settings=settings) as gateway:
        async with client(gateway.port) as busy, client(gateway.port) as idle:
            assert (await idle.ask("GET", "/")).status == 200
            await busy.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: len(app.seen) == 2)
            stopping = asyncio.create_task(gateway.gateway.stop())
            assert await idle.closed() == b""
            may_go.set()
            got = await busy.answer()
            assert (got.status, got.headers["connection"]) == (200, "close")
            await stopping
        assert gateway.gateway.connections == 0
        try:
            await asyncio.open_connection("127.0.0.1", gateway.port)
        except ConnectionRefusedError:
            return
        raise AssertionError("the listener is still open")
