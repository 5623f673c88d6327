"""API keys at the door: beside tokens, counted by plan, named in the log, seen by no service."""

from __future__ import annotations

import dataclasses

import pytest

from month1_caching_gateway.gateway import Route
from month1_caching_gateway.gateway.api_keys import ApiKey, KeyRing, digest_of, key_text
from month1_caching_gateway.ratelimit import CountedBy, Policy, Rule
from scalelab.clock import ManualClock
from tests.integration.month1.gateway.harness import client, peer, running, until

FREE, PRO = key_text("free01", "f" * 43), key_text("prof01", "p" * 43)
RING = KeyRing(
    [
        ApiKey("free01", digest_of(FREE), "small", "free", frozenset({"read"})),
        ApiKey("prof01", digest_of(PRO), "large", "pro", frozenset({"read", "write"})),
    ]
)
KEYED = Route("app", prefix="/keyed", auth="key")
EITHER = Route("app", prefix="/either", auth="either")


def ring() -> KeyRing:
    return RING


async def test_a_key_route_takes_keys_and_nothing_else() -> None:
    """Each refusal has its code; no service sees the request."""
    async with (
        peer() as app,
        running([app], [KEYED], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        missing = await http.ask("GET", "/keyed", Authorization="Bearer good")
        assert (missing.status, missing.code) == (401, "key_missing")
        assert missing.headers["www-authenticate"].startswith("ApiKey")
        wrong = await http.ask("GET", "/keyed", X_API_Key=key_text("free01", "g" * 43))
        assert (wrong.status, wrong.code) == (401, "key_invalid")
        assert app.seen == []
        assert (await http.ask("GET", "/keyed", X_API_Key=FREE)).status == 200


async def test_no_service_sees_the_key() -> None:
    """K3: it is between the caller and the gateway."""
    async with (
        peer() as app,
        running([app], [KEYED], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/keyed", X_API_Key=FREE)
        assert app.seen[0].header("x-api-key") is None


async def test_an_either_route_takes_one_of_both() -> None:
    """A token or a key; with both, nobody could say which counts."""
    async with (
        peer() as app,
        running([app], [EITHER], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        assert (await http.ask("GET", "/either", X_API_Key=FREE)).status == 200
        assert (await http.ask("GET", "/either", Authorization="Bearer good")).status == 200
        both = await http.ask("GET", "/either", X_API_Key=FREE, Authorization="Bearer good")
        assert (both.status, both.code) == (401, "two_credentials")
        assert (await http.ask("GET", "/either")).status == 401
        assert len(app.seen) == 2


async def test_a_key_that_comes_twice_is_refused() -> None:
    """Two readers would choose two of them."""
    async with (
        peer() as app,
        running([app], [KEYED], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        lines = f"X-API-Key: {FREE}\r\nX-API-Key: {PRO}\r\n"
        await http.send(f"GET /keyed HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
        assert (await http.answer()).status == 400
        assert app.seen == []


@pytest.mark.parametrize("query", ["api_key={}", "x={}", "a=1&X-Api-Key=1"])
async def test_a_key_in_a_url_is_refused(query: str) -> None:
    """Even beside a good one in the header: the URL stands in logs and histories."""
    async with (
        peer() as app,
        running([app], [EITHER], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        got = await http.ask("GET", f"/either?{query.format(FREE)}", X_API_Key=FREE)
        assert (got.status, got.code) == (401, "key_in_query")
        assert FREE.encode() not in got.body
        assert app.seen == []


async def test_a_scope_is_demanded_of_keys_too() -> None:
    """403 for the key that lacks it."""
    route = dataclasses.replace(KEYED, scope="write")
    async with (
        peer() as app,
        running([app], [route], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        got = await http.ask("GET", "/keyed", X_API_Key=FREE)
        assert (got.status, got.code) == (403, "scope_missing")
        assert (await http.ask("GET", "/keyed", X_API_Key=PRO)).status == 200
        assert len(app.seen) == 1


async def test_the_plan_of_a_key_chooses_its_policy() -> None:
    """Free has one request, pro has three; one does not take from the other."""
    rule = Rule("calls", Policy(1, 0.001), CountedBy.API_KEY, {"pro": Policy(3, 0.001)})
    route = dataclasses.replace(KEYED, rate="calls")
    async with (
        peer() as app,
        running([app], [route], keys=ring, rates={"calls": rule}, clock=ManualClock()) as gateway,
        client(gateway.port) as http,
    ):
        free = [await http.ask("GET", "/keyed", X_API_Key=FREE) for _ in range(2)]
        pro = [await http.ask("GET", "/keyed", X_API_Key=PRO) for _ in range(4)]
        assert [one.status for one in free] == [200, 429]
        assert [one.status for one in pro] == [200, 200, 200, 429]
        assert pro[0].headers["ratelimit-limit"] == "3"
        assert len(app.seen) == 4


async def test_a_withdrawn_key_is_refused_at_once() -> None:
    """The ring is asked anew for every request."""
    rings = [RING]
    async with (
        peer() as app,
        running([app], [KEYED], keys=lambda: rings[-1]) as gateway,
        client(gateway.port) as http,
    ):
        assert (await http.ask("GET", "/keyed", X_API_Key=FREE)).status == 200
        rings.append(KeyRing())
        assert (await http.ask("GET", "/keyed", X_API_Key=FREE)).code == "key_invalid"
        assert len(app.seen) == 1


async def test_the_log_names_the_key_by_its_id_alone() -> None:
    """Owner and id, no secret."""
    async with (
        peer() as app,
        running([app], [KEYED], keys=ring) as gateway,
        client(gateway.port) as http,
    ):
        await http.ask("GET", "/keyed", X_API_Key=FREE)
        await until(lambda: bool(gateway.records()))
        record = gateway.records()[0]
        assert (record["subject"], record["key_id"]) == ("small", "free01")
        assert b"f" * 43 not in b"".join(gateway.lines)
