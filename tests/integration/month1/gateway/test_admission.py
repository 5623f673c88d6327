"""Tokens, idempotency keys and rate limits at the door, with real tokens and a real Redis."""

from __future__ import annotations

import asyncio

import pytest

from month1_caching_gateway.gateway import GatewaySettings, Route
from month1_caching_gateway.ratelimit import (
    Decision,
    FailurePolicy,
    Limiter,
    Policy,
    RedisStore,
)
from scalelab.clients.redis import connect
from scalelab.clock import ManualClock, SystemClock
from scalelab.errors import Unavailable
from scalelab.security import Principal, SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from tests.integration.month1.gateway.harness import client, peer, running

ISSUER, AUDIENCE = "https://identity.test", "shop"
ORDERS = Route(
    "app",
    template="/orders",
    methods=frozenset({"GET", "POST"}),
    scope="shop",
)


def issuer(key: SigningKey, clock: ManualClock, *, audience: str = AUDIENCE) -> TokenIssuer:
    return TokenIssuer(key, ISSUER, audience, clock)


async def test_only_good_tokens_pass_and_travel_on() -> None:
    """Missing, forged, expired and foreign tokens are 401 with their code; scope is 403."""
    clock = ManualClock()
    key, other = SigningKey.generate(), SigningKey.generate()
    verifier = TokenVerifier(StaticJwks(jwks([key])), ISSUER, AUDIENCE, clock)
    good = issuer(key, clock).issue("user-1", frozenset({"shop"}), 600)
    refused = {
        "token_malformed": "not-a-token",
        "token_invalid": issuer(other, clock).issue("user-1", frozenset({"shop"}), 600),
        "scope_missing": issuer(key, clock).issue("user-1", frozenset({"other"}), 600),
    }
    async with (
        peer() as app,
        running([app], [ORDERS], verifier=verifier, clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        missing = await http.ask("GET", "/orders")
        assert (missing.status, missing.code) == (401, "token_missing")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        for code, token in refused.items():
            got = await http.ask("GET", "/orders", Authorization=f"Bearer {token}")
            assert (got.status, got.code) == (403 if code == "scope_missing" else 401, code)
        got = await http.ask("GET", "/orders", Authorization=f"Basic {good}")
        assert (got.status, got.code) == (401, "token_malformed")
        assert app.seen == []
        got = await http.ask("GET", "/orders", Authorization=f"bearer {good}")
        assert got.status == 200
        assert app.seen[0].header("authorization") == f"bearer {good}"
        clock.advance(631)  # the open connection is long idle by this clock
        async with client(gateway.port) as later:
            got = await later.ask("GET", "/orders", Authorization=f"Bearer {good}")
            assert (got.status, got.code) == (401, "token_expired")


async def test_a_route_may_demand_an_idempotency_key_of_known_callers() -> None:
    """401 before 400: strangers learn nothing. The key travels on unchanged."""
    routes = [
        Route(
            "app",
            template="/orders",
            methods=frozenset({"POST"}),
            idempotency_key_required=True,
        ),
        Route(
            "app",
            template="/open",
            methods=frozenset({"POST"}),
            auth="none",
            idempotency_key_required=True,
        ),
    ]
    good = {"Authorization": "Bearer good"}
    async with peer() as app, running([app], routes) as gateway, client(gateway.port) as http:
        assert (await http.ask("POST", "/orders", b"{}")).status == 401
        for target, headers in (("/orders", good), ("/open", {})):
            got = await http.ask("POST", target, b"{}", **headers)
            assert (got.status, got.code) == (400, "idempotency_key_missing")
            for bad in ("a b", "x" * 256, "\xe9"):
                got = await http.ask("POST", target, b"{}", Idempotency_Key=bad, **headers)
                assert (got.status, got.code) == (400, "idempotency_key_invalid")
        assert app.seen == []
        assert (
            await http.ask("POST", "/orders", b"{}", Idempotency_Key="k-1", **good)
        ).status == 200
        assert app.seen[0].header("idempotency-key") == "k-1"


class Everyone:
    """Takes the token for the subject."""

    async def verify(self, token: str | None) -> Principal:
        return Principal(token or "", frozenset(), None, "t", SystemClock().now())


async def test_each_caller_has_an_allowance_of_its_own(redis_url: str) -> None:
    """Two of three pass with their headers; the third is 429; another caller is not touched."""
    redis = connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    store = RedisStore(redis, deadline_s=10.0)
    routes = [Route("app", prefix="/", rate="few")]
    async with (
        peer() as app,
        running(
            [app],
            routes,
            verifier=Everyone(),
            limiter=Limiter(store, SystemClock(), on_failure=FailurePolicy.CLOSED),
            rates={"few": Policy(2, 0.01)},
        ) as gateway,
        client(gateway.port) as http,
    ):
        first = await http.ask("GET", "/", Authorization="Bearer ann")
        assert (first.status, first.headers["ratelimit-limit"]) == (200, "2")
        assert first.headers["ratelimit-remaining"] == "1"
        assert 90 <= int(first.headers["ratelimit-reset"]) <= 101
        assert (await http.ask("GET", "/", Authorization="Bearer ann")).status == 200
        third = await http.ask("GET", "/", Authorization="Bearer ann")
        assert (third.status, third.code) == (429, "rate_limited")
        assert third.headers["ratelimit-remaining"] == "0"
        assert 90 <= int(third.headers["retry-after"]) <= 101
        assert (await http.ask("GET", "/", Authorization="Bearer bob")).status == 200
        assert len(app.seen) == 3
    await store.aclose()
    await redis.aclose()


async def test_strangers_share_the_allowance_of_their_address() -> None:
    """No header moves a caller to another bucket; a new connection does not either."""
    clock = ManualClock()
    routes = [Route("app", prefix="/", auth="none", rate="few")]
    async with (
        peer() as app,
        running([app], routes, rates={"few": Policy(2, 0.001)}, clock=clock) as gateway,
    ):
        statuses: list[int] = []
        for spoofed in ("1.1.1.1", "2.2.2.2", "3.3.3.3"):
            async with client(gateway.port) as http:
                got = await http.ask(
                    "GET", "/", X_Forwarded_For=spoofed, Authorization=f"Bearer {spoofed}"
                )
                statuses.append(got.status)
        assert statuses == [200, 200, 429]
        assert len(app.seen) == 2


class Gone:
    """A store that nobody can reach."""

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        raise Unavailable("gone")


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [
        (FailurePolicy.OPEN, [200, 200, 200]),
        (FailurePolicy.CLOSED, [503, 503, 503]),
        (FailurePolicy.LOCAL_SHARE, [200, 429, 429]),
    ],
)
async def test_without_redis_the_failure_policy_decides(
    policy: FailurePolicy, statuses: list[int]
) -> None:
    """Open admits, closed refuses with Retry-After, local share counts here: one of two."""
    clock = ManualClock()
    limiter = Limiter(Gone(), clock, on_failure=policy, processes=2)
    routes = [Route("app", prefix="/", auth="none", rate="few")]
    async with (
        peer() as app,
        running(
            [app], routes, limiter=limiter, rates={"few": Policy(2, 0.001)}, clock=clock
        ) as gateway,
        client(gateway.port) as http,
    ):
        answers = [await http.ask("GET", "/") for _ in range(3)]
        assert [one.status for one in answers] == statuses
        assert all("retry-after" in one.headers for one in answers if one.status != 200)
        assert len(app.seen) == statuses.count(200)


async def test_a_check_that_never_ends_is_given_up() -> None:
    """A verifier that hangs costs one request 503, not the connection."""
    hung = asyncio.Event()

    class Hangs:
        async def verify(self, token: str | None) -> Principal:
            await hung.wait()
            raise AssertionError

    settings = GatewaySettings(sweep_s=0.01, admission_timeout_s=0.05)
    async with (
        peer() as app,
        running([app], [ORDERS], verifier=Hangs(), settings=settings) as gateway,
        client(gateway.port) as http,
    ):
        for _ in range(2):
            got = await http.ask("GET", "/orders")
            assert (got.status, got.code) == (503, "admission_timeout")
        assert app.seen == []


async def test_a_fault_of_our_own_is_500_and_not_silence() -> None:
    """A limiter that raises nonsense: the caller hears of it, the gateway lives."""

    class Broken(Limiter):
        def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
            raise ZeroDivisionError

    routes = [
        Route("app", prefix="/", auth="none"),
        Route("app", prefix="/limited", auth="none", rate="few"),
    ]
    async with (
        peer() as app,
        running(
            [app], routes, limiter=Broken(Gone(), SystemClock()), rates={"few": Policy(1, 1)}
        ) as gateway,
        client(gateway.port) as http,
    ):
        got = await http.ask("GET", "/limited")
        assert (got.status, got.code) == (500, "internal")
        assert b"ZeroDivision" not in got.body
        assert (await http.ask("GET", "/")).status == 200
        assert len(app.seen) == 1
