"""Requests that two servers could read in different ways: refused, and never forwarded.

Every case is sent between two honest requests on one connection. The upstream counts with h11,
another parser: it must see the first honest request and nothing else, because after a malformed
request nothing on that connection can be trusted.
"""

from __future__ import annotations

import pytest

from month1_caching_gateway.gateway import GatewaySettings
from tests.integration.month1.gateway.harness import client, peer, running, until
from tests.security.month1.smuggling_cases import (
    AFTER,
    BEFORE,
    CHUNKED,
    GET,
    HARMLESS,
    KEEPS_THE_CONNECTION,
    NUMBERED,
    POST,
    REFUSED,
)


def test_the_twenty_cases_are_all_of_the_table() -> None:
    """Every variant belongs to one numbered case."""
    assert sorted(NUMBERED) == list(range(1, 21))
    assert sorted(name for _, names in NUMBERED.values() for name in names) == sorted(REFUSED)


@pytest.mark.parametrize("case", sorted(REFUSED))
async def test_what_can_be_read_in_two_ways_is_refused(case: str) -> None:
    """One honest answer, one refusal, then the end; the upstream saw one request."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.send(BEFORE + REFUSED[case] + AFTER)
        assert (await http.answer()).status == 200
        refused = await http.answer()
        assert refused.status in (400, 505)
        if case in KEEPS_THE_CONNECTION:
            assert (await http.answer()).status == 200
            assert [seen.target for seen in app.seen] == ["/before", "/after"]
        else:
            assert refused.headers["connection"] == "close"
            assert await http.closed() == b""
            assert [seen.target for seen in app.seen] == ["/before"]
        assert app.bad_streams == 0


@pytest.mark.parametrize("case", sorted(HARMLESS))
@pytest.mark.parametrize("one_byte_at_a_time", [False, True], ids=["whole", "dripped"])
async def test_what_only_looks_odd_is_served_once(case: str, *, one_byte_at_a_time: bool) -> None:
    """Three requests sent are three requests seen, however the bytes are cut."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        wire = BEFORE + HARMLESS[case] + AFTER
        for at in range(0, len(wire), 1 if one_byte_at_a_time else len(wire)):
            await http.send(wire[at : at + (1 if one_byte_at_a_time else len(wire))])
        for _ in range(3):
            assert (await http.answer()).status == 200
        targets = [seen.target for seen in app.seen]
        assert targets == ["/before", "/", "/after"]
        assert app.bad_streams == 0


LIMITS = {
    "request-line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "endless-request-line": (b"G" * 20_000, 414),
    "one-huge-header": (GET + b"X: " + b"a" * 17_000 + b"\r\n\r\n", 431),
    "endless-head": (GET + b"X: y\r\n" * 4000, 431),
    "many-headers": (GET + b"X: y\r\n" * 150 + b"\r\n", 431),
    "declared-body": (POST + b"Content-Length: 1048577\r\n\r\n", 413),
    "chunked-body": (CHUNKED + b"\r\n" + b"4000\r\n" + b"x" * 16384 + b"\r\n", 413),
}


@pytest.mark.parametrize("case", sorted(LIMITS))
async def test_limits_are_kept_before_everything_is_read(case: str) -> None:
    """The refusal comes although the request never ends; nothing whole reached the upstream."""
    wire, status = LIMITS[case]
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.send(wire)
        if case == "chunked-body":
            for _ in range(70):
                await http.send(b"4000\r\n" + b"x" * 16384 + b"\r\n")
        got = await http.answer()
        assert got.status == status
        assert got.headers["connection"] == "close"
        assert await http.closed() == b""
        assert app.seen == []


async def test_a_flood_of_pipelined_refusals_does_not_pile_up_answers() -> None:
    """A client that pipelines without reading is paused like any slow reader, then served."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        bad = b"GET /a//b HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(10):
            http.writer.write(bad * 500)
        for _ in range(5000):
            assert (await http.answer()).status == 400
        assert (await http.ask("GET", "/")).status == 200
        assert len(app.seen) == 1


async def test_a_host_that_is_not_served_is_421() -> None:
    """DNS rebinding: a name that is not ours is refused, whatever it resolves to."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        for host in (b"evil.example", b"localhost.evil.example", b"localhost.", b"10.0.0.1"):
            await http.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            assert (await http.answer()).code == "misdirected_request"
        for host in (b"localhost", b"LOCALHOST:8080", b"127.0.0.1:1", b"[::1]:80"):
            await http.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            assert (await http.answer()).status == 200
        assert len(app.seen) == 4


async def test_a_refusal_is_readable_although_the_client_still_sends() -> None:
    """Closing with unread input would reset the connection and lose the answer on its way."""
    settings = GatewaySettings(sweep_s=0.01, linger_s=5.0)
    async with peer() as app, running([app], settings=settings) as gateway:
        for _ in range(5):
            async with client(gateway.port) as http:
                await http.send(POST + b"Content-Length: 20000000\r\n\r\n" + b"x" * 8_000_000)
                assert (await http.answer()).status == 413
        await until(lambda: gateway.gateway.connections == 0)
        assert app.seen == []
