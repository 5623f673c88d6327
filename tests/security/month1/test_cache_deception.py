"""Nobody's page is kept for others, and nobody can put his own page in another's cache.

Deception: a private page is asked for under a name that looks like a public file. Poisoning: a
stranger adds something that is not in the key and changes what everybody gets.
"""

from __future__ import annotations

import asyncio

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from month1_caching_gateway.response_cache import CachePolicy
from tests.integration.month1.gateway.harness import Seen, client, peer, plain, running

ROUTES = [
    Route("app", prefix="/account", auth="user"),
    Route("app", prefix="/assets", auth="none", cache=CachePolicy(query=frozenset({b"v"}))),
    Route("app", prefix="/pages", auth="none", cache=CachePolicy()),
]
ANY_HOST = GatewaySettings(sweep_s=0.01, log_flush_s=0.01, allowed_hosts=frozenset())


async def tells_all(
    seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """A careless service: it echoes everything it was sent, and says that all may be kept."""
    body = repr((seen.target, sorted(seen.headers))).encode()
    headers = [("Cache-Control", "public, max-age=600"), ("Content-Type", "text/css")]
    writer.write(plain(200, body if seen.method != "HEAD" else b"", *headers))
    await writer.drain()
    return True


@pytest.mark.parametrize(
    "target",
    [
        "/account/x.css",
        "/account/x.js?v=1",
        "/account%2fx.css",
        "/account;x.css",
        "/account/;x.css",
        "/account/%3bx.css",
        "/account/x.css%00.js",
        "/account/%2e%2e/assets/x.css",
        "/assets/../account",
        "/assets/..%2faccount",
        "/assets/%2e%2e/account",
        "/assets/..;/account",
        "/assets//account",
        "/account/%23/x.css",
        "/account/x.css?",
    ],
)
async def test_a_private_page_is_never_stored_under_a_public_name(target: str) -> None:
    """The victim follows the link; the attacker asks for the same and gets no page."""
    async with peer(tells_all) as app, running([app], ROUTES) as gateway:
        async with client(gateway.port) as victim:
            await victim.ask("GET", target, Authorization="Bearer good")
        async with client(gateway.port) as attacker:
            got = await attacker.ask("GET", target)
        assert got.status in (400, 401, 404)
        assert b"Bearer good" not in got.body
        assert all(not one.target.startswith("/assets") for one in app.seen)


@pytest.mark.parametrize("credential", ["Authorization", "Cookie"])
async def test_a_public_route_that_tells_private_things_keeps_none_of_them(credential: str) -> None:
    """A session that reached the wrong page: its answer passes and is gone."""
    async with peer(tells_all) as app, running([app], ROUTES) as gateway:
        async with client(gateway.port) as victim:
            got = await victim.ask("GET", "/pages/1", None, **{credential: "secret-of-ann"})
            assert b"secret-of-ann" in got.body
        async with client(gateway.port) as attacker:
            assert b"secret-of-ann" not in (await attacker.ask("GET", "/pages/1")).body
        assert len(app.seen) == 2


@pytest.mark.parametrize(
    "poison",
    [
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Prefix: /evil",
        "X-Host: evil.example",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-HTTP-Method-Override: evil",
        "Forwarded: host=evil.example",
        "X-Timer: evil",
        "User-Agent: evil",
        "Origin: https://evil.example",
        "Referer: https://evil.example",
        "Range: bytes=0-evil",
        "If-None-Match: evil",
        "Transfer-Evil: evil",
    ],
)
async def test_what_is_not_in_the_key_does_not_reach_the_service(poison: str) -> None:
    """The service echoes all it hears, and the next caller hears nothing of it."""
    async with peer(tells_all) as app, running([app], ROUTES) as gateway:
        async with client(gateway.port) as attacker:
            await attacker.send(
                f"GET /pages/1 HTTP/1.1\r\nHost: localhost\r\n{poison}\r\n\r\n".encode()
            )
            assert b"evil" not in (await attacker.answer()).body
        async with client(gateway.port) as victim:
            got = await victim.ask("GET", "/pages/1")
        assert b"evil" not in got.body
        assert "hit" in got.headers["cache-status"]
        assert len(app.seen) == 1


async def test_a_parameter_outside_the_key_is_not_sent() -> None:
    """`utm=<script>` neither makes a new key nor changes the answer of the old one."""
    async with peer(tells_all) as app, running([app], ROUTES) as gateway:
        async with client(gateway.port) as http:
            await http.ask("GET", "/assets/a.css?utm=evil&v=1&%76=evil")
            got = await http.ask("GET", "/assets/a.css?v=1")
            assert "hit" in got.headers["cache-status"]
        assert [one.target for one in app.seen] == ["/assets/a.css?v=1"]


@pytest.mark.parametrize("other", ["localhost:1337", "other.example", "LOCALHOST:1"])
async def test_another_host_is_another_key(other: str) -> None:
    """With its port: a service that writes links from Host writes them for that host alone."""
    async with (
        peer(tells_all) as app,
        running([app], ROUTES, settings=ANY_HOST) as gateway,
        client(gateway.port) as http,
    ):
        await http.send(f"GET /pages/1 HTTP/1.1\r\nHost: {other}\r\n\r\n".encode())
        assert (await http.answer()).status == 200
        got = await http.ask("GET", "/pages/1")
        assert other.encode() not in got.body
        assert len(app.seen) == 2


async def test_a_variant_is_kept_for_those_who_ask_alike() -> None:
    """A service that negotiates without saying so: each language gets what it asked for.

    That is the service's mistake (no Vary), and the cache's price for it: the first language is
    given to all. The test states it, so that nobody believes otherwise.
    """
    async with peer(tells_all) as app, running([app], ROUTES) as gateway:
        async with client(gateway.port) as http:
            await http.ask("GET", "/pages/1", Accept_Language="de")
            got = await http.ask("GET", "/pages/1", Accept_Language="en")
        assert b"'de'" in got.body
        assert len(app.seen) == 1
