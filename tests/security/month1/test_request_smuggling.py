"""Requests that two servers could read in different ways: refused, and never forwarded.

Every case is sent between two honest requests on one connection. The upstream counts with h11,
another parser: it must see the first honest request and nothing else, because after a malformed
request nothing on that connection can be trusted.
"""

from __future__ import annotations

import pytest

from month1_caching_gateway.gateway import GatewaySettings
from tests.integration.month1.gateway.harness import client, peer, running, until

BEFORE = b"GET /before HTTP/1.1\r\nHost: localhost\r\n\r\n"
AFTER = b"GET /after HTTP/1.1\r\nHost: localhost\r\n\r\n"
INSIDE = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    # Two lengths.
    "cl-te": CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\n" + INSIDE,
    "te-cl": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INSIDE,
    "two-cl": POST + b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + INSIDE,
    "two-equal-cl": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + INSIDE,
    "cl-list": POST + b"Content-Length: 0, 43\r\n\r\n" + INSIDE,
    "cl-plus": POST + b"Content-Length: +43\r\n\r\n" + INSIDE,
    "cl-minus": POST + b"Content-Length: -1\r\n\r\n" + INSIDE,
    "cl-hex": POST + b"Content-Length: 0x2b\r\n\r\n" + INSIDE,
    "cl-space-inside": POST + b"Content-Length: 4 3\r\n\r\n" + INSIDE,
    "cl-empty": POST + b"Content-Length:\r\n\r\n" + INSIDE,
    "cl-underscore": POST + b"Content_Length: 43\r\n\r\n" + INSIDE,
    "cl-overflow": POST + b"Content-Length: 18446744073709551617\r\n\r\n" + INSIDE,
    # Transfer codings in disguise.
    "te-te": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "te-identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + INSIDE,
    "te-list": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "te-prefix": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "te-quoted": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "te-vertical-tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "te-underscore": POST + b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te-space-before-colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "te-http-1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n0\r\n\r\n",
    # Line ends and white space.
    "bare-lf": b"GET / HTTP/1.1\nHost: localhost\n\n" + INSIDE,
    "bare-lf-in-a-header": GET + b"X: a\nTransfer-Encoding: chunked\r\n\r\n",
    "bare-cr-in-a-header": GET + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "nul-in-a-header": GET + b"X: a\x00b\r\n\r\n",
    "obs-fold": GET + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "space-before-the-first-header": b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "header-without-colon": GET + b"Transfer-Encoding\r\n\r\n",
    "header-without-name": GET + b": x\r\n\r\n",
    # Chunks.
    "chunk-size-not-hex": CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "chunk-size-signed": CHUNKED + b"\r\n+3\r\nabc\r\n0\r\n\r\n",
    "chunk-size-0x": CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk-size-overflow": CHUNKED + b"\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    "chunk-size-empty": CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n",
    "chunk-longer-than-it-says": CHUNKED + b"\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "chunk-without-its-line-end": CHUNKED + b"\r\n3\r\nabcXX0\r\n\r\n",
    "chunk-line-ends-in-lf": CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n",
    "chunk-extension-with-lf": CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "chunk-data-ends-in-lf": CHUNKED + b"\r\n3\r\nabc\n0\r\n\r\n",
    "chunk-trailer": CHUNKED + b"\r\n0\r\nAuthorization: Bearer evil\r\n\r\n",
    # Request lines and hosts.
    "absolute-form": b"GET http://localhost/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "authority-form": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two-spaces": b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tab": b"GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "http-0.9": b"GET /\r\n\r\n",
    "http-1.2": b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "rtsp": b"GET / RTSP/1.0\r\nHost: localhost\r\n\r\n",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "two-hosts": GET + b"Host: internal\r\n\r\n",
    "host-with-path": b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "host-with-user": b"GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n",
    "h2c-upgrade": GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    "two-authorizations": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
}
KEEPS_THE_CONNECTION = {"absolute-form", "asterisk-form"}


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


HARMLESS = {
    "body-that-looks-like-a-request": POST + b"Content-Length: 43\r\n\r\n" + INSIDE[:43],
    "chunk-extension": CHUNKED + b"\r\n3;name=value\r\nabc\r\n0\r\n\r\n",
    "zero-padded-chunk-size": CHUNKED + b"\r\n003\r\nabc\r\n000\r\n\r\n",
    "chunked-in-capitals": POST + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "chunk-that-looks-like-a-request": CHUNKED
    + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(INSIDE), INSIDE),
    "tabs-around-a-value": GET + b"X-Tab: \t a \t\r\n\r\n",
    "empty-line-before": b"\r\n" + GET + b"\r\n",
    "get-with-body": GET + b"Content-Length: 3\r\n\r\nabc",
}


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
