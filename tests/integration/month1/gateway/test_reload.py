"""Routes that change while requests run: nothing fails, nothing is mixed up, nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from month1_caching_gateway.gateway import Endpoint, Route, Rules, Upstream
from scalelab.errors import InvalidInput
from tests.fixtures.tiers import Count
from tests.integration.month1.gateway.harness import Peer, Seen, client, peer, plain, running, until
from tests.integration.month1.gateway.load import load


def upstream(name: str, *peers: Peer) -> Upstream:
    return Upstream(name, tuple(Endpoint("127.0.0.1", one.port) for one in peers))


def everything(to: str) -> Route:
    return Route(to, prefix="/", auth="none")


def rules(*upstreams: Upstream, to: str, revision: str = "") -> Rules:
    return Rules((everything(to),), upstreams, {}, revision)


async def test_requests_under_many_reloads_all_succeed(count: Count) -> None:
    """Upstreams come, go and stay, under load: 0 failed."""
    async with (
        peer() as one,
        peer() as two,
        running({"one": [one]}, [everything("one")]) as gateway,
    ):
        a, b = upstream("one", one), upstream("two", two)
        variants = [rules(a, to="one"), rules(a, b, to="two"), rules(b, to="two")]
        async with load(gateway.port, "/x") as tally:
            for number in range(count(2000)):
                gateway.gateway.apply(variants[number % 3])
                await tally.more(5)
        assert tally.failed == 0
        assert one.seen
        assert two.seen
        await until(lambda: gateway.metric("gateway_upstreams_draining", listener="http") == 0)


async def test_a_service_that_did_not_change_keeps_its_connections() -> None:
    """S2: ten reloads, one connection."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        for number in range(10):
            assert (await http.ask("GET", "/")).status == 200
            gateway.gateway.apply(rules(upstream("app", app), to="app", revision=str(number)))
        assert app.connections == 1


async def test_a_service_that_did_not_change_keeps_its_breaker() -> None:
    """S2: a reload must not send the next burst into a dead service."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        same = upstream("app", app)
        gateway.gateway.apply(rules(same, to="app"))
        await app.die()
        for _ in range(20):
            await http.ask("GET", "/")
        opened = gateway.metric("gateway_breaker_phase", upstream="app")
        gateway.gateway.apply(rules(same, to="app", revision="2"))
        assert opened == gateway.metric("gateway_breaker_phase", upstream="app") == 2.0
        assert (await http.ask("GET", "/")).code == "breaker_open"


async def test_a_request_ends_under_the_routes_it_began_under() -> None:
    """S1 and S3: its service is gone from the routes, and still answers it; then it is let go."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(_seen: Seen, _r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        asked.set()
        await go.wait()
        writer.write(plain(200, b"the old one"))
        return True

    async with (
        peer(slow) as old,
        peer() as new,
        running({"old": [old]}, [everything("old")]) as gateway,
        client(gateway.port) as first,
        client(gateway.port) as second,
    ):
        running_request = asyncio.create_task(first.ask("GET", "/"))
        await asked.wait()
        gateway.gateway.apply(rules(upstream("new", new), to="new"))
        assert (await second.ask("GET", "/")).status == 200
        assert len(new.seen) == 1
        assert gateway.metric("gateway_upstreams_draining", listener="http") == 1
        go.set()
        assert (await running_request).body == b"the old one"
        await until(lambda: gateway.metric("gateway_upstreams_draining", listener="http") == 0)
        assert (await first.ask("GET", "/")).status == 200
        assert len(new.seen) == 2


async def test_rules_that_make_no_sense_cannot_even_be_built() -> None:
    """So they cannot be applied, and what is in force stays."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        with pytest.raises(InvalidInput):
            gateway.gateway.apply(rules(upstream("app", app), to="nowhere"))
        assert (await http.ask("GET", "/")).status == 200


async def test_a_host_that_a_reload_brings_is_served_and_refused_when_it_goes() -> None:
    """Routes may name hosts; what no route and no setting names stays refused."""
    async with peer() as app, running([app]) as gateway, client(gateway.port) as http:
        same = upstream("app", app)
        shop = Route("app", prefix="/", auth="none", hosts=frozenset({"shop.example"}))

        async def status() -> int:
            await http.send(b"GET / HTTP/1.1\r\nHost: shop.example:8080\r\n\r\n")
            return (await http.answer()).status

        assert await status() == 421
        gateway.gateway.apply(Rules((shop,), (same,), {}))
        assert await status() == 200
        assert (await http.ask("GET", "/")).status == 404
        gateway.gateway.apply(rules(same, to="app"))
        assert await status() == 421
