"""What no service should ever see: oversize, broken text, odd paths, hosts that are not ours."""

from __future__ import annotations

import asyncio

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from tests.integration.month1.gateway.harness import Seen, client, peer, running

SMALL = GatewaySettings(
    sweep_s=0.01,
    log_flush_s=0.01,
    max_body_bytes=100,
    max_head_bytes=2000,
    max_headers=20,
    max_request_line_bytes=500,
)
HOST, LINE = "Host: localhost\r\n", "X: 1\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (f"POST / HTTP/1.1\r\n{HOST}Content-Length: 101\r\n\r\n", 413, "body_too_large"),
        (
            f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nff\r\n{'x' * 255}",
            413,
            "body_too_large",
        ),
        (f"GET /{'a' * 600} HTTP/1.1\r\n{HOST}\r\n", 414, "target_too_long"),
        (f"GET / HTTP/1.1\r\n{HOST}X: {'a' * 3000}\r\n\r\n", 431, "header_too_large"),
        (f"GET / HTTP/1.1\r\n{HOST}{LINE * 25}\r\n", 431, "too_many_headers"),
        (f"GET /%ff HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /%c0%af HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /%ed%a0%80 HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /%zz HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /% HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /%00 HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET //a HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /a//b HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /%2e%2e/a HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /a/%2e HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /a%2fb HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET /a?b=\x7f HTTP/1.1\r\n{HOST}\r\n", 400, None),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, "misdirected_request"),
        ("GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 421, "misdirected_request"),
        ("GET / HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (f"GET http://evil.example/ HTTP/1.1\r\n{HOST}\r\n", 400, "invalid_target"),
        (f"GET / HTTP/1.1\r\n{HOST}X: a\x00b\r\n\r\n", 400, "bad_request"),
        (f"GET / HTTP/2.7\r\n{HOST}\r\n", 400, "bad_request"),
    ],
    ids=lambda value: repr(value)[:48],
)
async def test_bad_input_gets_a_problem_and_no_service_hears_of_it(
    request_: str, status: int, code: str | None
) -> None:
    """One answer, its code, and not a byte to the service."""
    route = Route("app", prefix="/", auth="none", methods=frozenset({"GET", "POST"}))
    async with (
        peer() as app,
        running([app], [route], settings=SMALL) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(request_.encode("latin-1"))
        got = await http.answer()
        assert got.status == status
        assert code is None or got.code == code
        assert app.seen == []


async def test_a_header_in_another_encoding_passes_as_it_is() -> None:
    """HTTP has no encoding above ASCII: the bytes are the service's business, unchanged."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        await http.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Name: caf\xc3\xa9 \xff\r\n\r\n")
        assert (await http.answer()).status == 200
        assert app.seen[0].header("x-name") == b"caf\xc3\xa9 \xff".decode("latin-1")


@pytest.mark.parametrize(("method", "retry"), [("GET", True), ("POST", False)])
async def test_a_failed_service_is_worth_a_retry_where_once_is_enough(
    method: str, *, retry: bool
) -> None:
    """Retry-After on 502 for what may be done twice; for a POST nobody knows what happened."""

    async def dies(_s: Seen, _r: asyncio.StreamReader, _w: asyncio.StreamWriter) -> bool:
        return False

    async with peer(dies) as app, running([app]) as gateway, client(gateway.port) as http:
        got = await http.ask(method, "/", b"")
        assert got.status == 502
        assert ("retry-after" in got.headers) is retry
        assert app.seen
