"""CORS at the door: what a browser of another origin is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from month1_caching_gateway.gateway import Route
from month1_caching_gateway.gateway.cors import Cors
from month1_caching_gateway.ratelimit import Policy
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput
from tests.integration.month1.gateway.harness import Seen, client, peer, plain, running

SHOP = "https://shop.example"
CORS = Cors(
    frozenset({SHOP, "http://localhost:3000"}),
    headers=("authorization", "content-type"),
    expose=("etag",),
    credentials=True,
)
ROUTE = Route("app", prefix="/api", methods=frozenset({"GET", "PUT"}), cors=CORS)
OPEN = dataclasses.replace(ROUTE, auth="none")


def preflight(origin: str = SHOP, method: str = "PUT") -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": method}


async def test_a_preflight_is_answered_here_and_needs_no_credential() -> None:
    """204 with the lists, on a route that demands a token; no service is asked."""
    async with peer() as app, running([app], [ROUTE]) as gateway, client(gateway.port) as http:
        got = await http.ask("OPTIONS", "/api/1", None, **preflight())
        assert (got.status, got.body) == (204, b"")
        assert got.headers["access-control-allow-origin"] == SHOP
        assert got.headers["access-control-allow-methods"] == "GET, PUT"
        assert got.headers["access-control-allow-headers"] == "authorization, content-type"
        assert got.headers["access-control-allow-credentials"] == "true"
        assert got.headers["access-control-max-age"] == "600"
        assert got.headers["vary"] == "Origin"
        assert app.seen == []


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://shop.example.evil.example",
        "https://evil-shop.example",
        "http://shop.example",
        "https://shop.example:8443",
        "HTTPS://SHOP.EXAMPLE",
        "https://shop.example, https://shop.example",
        "*",
    ],
)
async def test_an_origin_not_on_the_list_is_never_named(origin: str) -> None:
    """C1, in preflights and in actual answers; C3: the answer still varies by it."""
    async with peer() as app, running([app], [OPEN]) as gateway, client(gateway.port) as http:
        refused = await http.ask("OPTIONS", "/api/1", None, **preflight(origin))
        assert (refused.status, refused.code) == (403, "origin_not_allowed")
        got = await http.ask("GET", "/api/1", Origin=origin)
        assert got.status == 200
        for answer in (refused, got):
            assert not any(name.startswith("access-control-") for name in answer.headers)
            assert "origin" in answer.headers["vary"].lower()
        assert len(app.seen) == 1


def saying(*headers: tuple[str, str]) -> Callable[..., Awaitable[bool]]:
    async def answer(_s: Seen, _r: object, writer: object) -> bool:
        writer.write(plain(200, b"ok", *headers))  # type: ignore[attr-defined]
        return True

    return answer


async def test_what_the_service_says_of_origins_is_replaced() -> None:
    """A careless service reflects; the gateway decides."""
    careless = saying(
        ("Access-Control-Allow-Origin", "https://evil.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Allow-Private-Network", "true"),
        ("Vary", "Accept"),
    )
    async with (
        peer(careless) as app,
        running([app], [OPEN]) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(
            f"GET /api/1 HTTP/1.1\r\nHost: localhost\r\nOrigin: {SHOP}\r\n\r\n".encode()
        )
        head = (await http.reader.readuntil(b"\r\n\r\n")).lower()
        assert head.count(b"access-control-allow-origin") == 1
        assert f"access-control-allow-origin: {SHOP}".encode() in head
        assert b"access-control-expose-headers: etag" in head
        assert b"private-network" not in head
        assert b"vary: accept\r\n" in head
        assert b"vary: origin\r\n" in head
        assert len(app.seen) == 1


async def test_a_refusal_can_be_read_by_the_page_too() -> None:
    """401 with the headers: the page learns that it must sign in."""
    async with peer() as app, running([app], [ROUTE]) as gateway, client(gateway.port) as http:
        got = await http.ask("GET", "/api/1", Origin=SHOP)
        assert (got.status, got.headers["access-control-allow-origin"]) == (401, SHOP)
        assert app.seen == []


async def test_preflights_are_rate_limited() -> None:
    """They take from the address's allowance."""
    limited = dataclasses.replace(ROUTE, rate="few")
    async with (
        peer() as app,
        running([app], [limited], rates={"few": Policy(2, 0.001)}, clock=ManualClock()) as gateway,
        client(gateway.port) as http,
    ):
        answers = [await http.ask("OPTIONS", "/api/1", None, **preflight()) for _ in range(3)]
        assert [one.status for one in answers] == [204, 204, 429]
        assert app.seen == []


async def test_options_without_a_preflights_headers_is_an_ordinary_request() -> None:
    """405 here, for the route does not take it."""
    async with peer() as app, running([app], [OPEN]) as gateway, client(gateway.port) as http:
        got = await http.ask("OPTIONS", "/api/1", Origin=SHOP)
        assert (got.status, got.code) == (405, "method_not_allowed")
        assert app.seen == []


async def test_a_route_without_a_policy_says_nothing_of_origins() -> None:
    """Nor does it answer preflights."""
    closed = dataclasses.replace(OPEN, cors=None)
    async with peer() as app, running([app], [closed]) as gateway, client(gateway.port) as http:
        assert (await http.ask("OPTIONS", "/api/1", None, **preflight())).status == 405
        got = await http.ask("GET", "/api/1", Origin=SHOP)
        assert "vary" not in got.headers
        assert len(app.seen) == 1


async def test_public_answers_may_be_open_to_all_without_credentials() -> None:
    """C2: `*` needs no Vary, for it depends on nobody."""
    public = dataclasses.replace(OPEN, cors=Cors(frozenset({"*"})))
    async with peer() as app, running([app], [public]) as gateway, client(gateway.port) as http:
        got = await http.ask("GET", "/api/1", Origin="https://anywhere.example")
        assert got.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in got.headers
        assert len(app.seen) == 1


@pytest.mark.parametrize("origin", ["null", "https://*.example", "shop.example", "https://a/b", ""])
def test_a_policy_takes_exact_origins_only(origin: str) -> None:
    """A pattern would be read as one, sooner or later."""
    with pytest.raises(InvalidInput):
        Cors(frozenset({origin}))
    with pytest.raises(InvalidInput):
        Cors(frozenset({"*"}), credentials=True)
