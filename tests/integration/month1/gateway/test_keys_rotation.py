"""The issuer's keys at the gateway: rotated, flooded with unknown names, unreachable."""

from __future__ import annotations

import asyncio
import base64
import json

from month1_caching_gateway.gateway import Route
from scalelab.clock import ManualClock
from scalelab.errors import Unavailable
from scalelab.security import HttpJwks, SigningKey, TokenIssuer, TokenVerifier, jwks
from tests.integration.month1.gateway.harness import client, peer, running

ISSUER, AUDIENCE = "https://identity.test", "shop"
ROUTE = Route("app", prefix="/")


class Issuer:
    """The issuer's JWKS document, and how often it was read."""

    def __init__(self) -> None:
        self.keys = [SigningKey.generate()]
        self.reads = 0
        self.gone = False

    async def fetch(self, _url: str) -> bytes:
        self.reads += 1
        await asyncio.sleep(0)
        if self.gone:
            raise Unavailable("the issuer does not answer")
        return json.dumps(jwks(self.keys)).encode()

    def token(self, clock: ManualClock, number: int = -1) -> str:
        issuer = TokenIssuer(self.keys[number], ISSUER, AUDIENCE, clock)
        return issuer.issue("user-1", frozenset(), 600)

    def verifier(self, clock: ManualClock) -> TokenVerifier:
        source = HttpJwks("http://issuer/jwks", self.fetch, clock=clock)
        return TokenVerifier(source, ISSUER, AUDIENCE, clock)


def unknown(token: str, number: int) -> str:
    """The token with the name of a key that nobody has."""
    head, payload, signature = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    header["kid"] = f"invented-{number}"
    changed = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{changed}.{payload}.{signature}"


async def test_a_flood_of_unknown_keys_is_one_read_per_interval() -> None:
    """Three hundred invented names from ten callers: 401 each, and the issuer is asked once."""
    issuer, clock = Issuer(), ManualClock()
    good = issuer.token(clock)
    async with (
        peer() as app,
        running([app], [ROUTE], verifier=issuer.verifier(clock), clock=clock) as gateway,
    ):
        async with client(gateway.port) as http:
            assert (await http.ask("GET", "/", Authorization=f"Bearer {good}")).status == 200
        reads = issuer.reads

        async def press(first: int) -> None:
            async with client(gateway.port) as http:
                for number in range(first, first + 30):
                    clock.advance(0.01)  # later than the last read, within its interval
                    bad = unknown(good, number)
                    got = await http.ask("GET", "/", Authorization=f"Bearer {bad}")
                    assert (got.status, got.code) == (401, "token_invalid")

        await asyncio.gather(*(press(30 * number) for number in range(10)))
        assert issuer.reads == reads
        clock.advance(10)
        await asyncio.gather(*(press(1000 + 30 * number) for number in range(10)))
        assert issuer.reads == reads + 1
        assert len(app.seen) == 1


async def test_a_new_key_is_believed_without_a_restart() -> None:
    """Rotation: tokens of the old key and of the new one pass while both are published."""
    issuer, clock = Issuer(), ManualClock()
    old = issuer.token(clock)
    async with (
        peer() as app,
        running([app], [ROUTE], verifier=issuer.verifier(clock), clock=clock) as gateway,
        client(gateway.port) as http,
    ):
        assert (await http.ask("GET", "/", Authorization=f"Bearer {old}")).status == 200
        issuer.keys.append(SigningKey.generate())
        clock.advance(11)
        async with client(gateway.port) as later:
            for token in (issuer.token(clock), old):
                got = await later.ask("GET", "/", Authorization=f"Bearer {token}")
                assert got.status == 200
        assert len(app.seen) == 3


async def test_an_issuer_that_is_gone_stops_nobody_whose_key_is_known() -> None:
    """The keys in hand serve for an hour; after that nobody is believed, and nobody let in."""
    issuer, clock = Issuer(), ManualClock()
    async with (
        peer() as app,
        running([app], [ROUTE], verifier=issuer.verifier(clock), clock=clock) as gateway,
    ):
        async with client(gateway.port) as http:
            token = issuer.token(clock)
            assert (await http.ask("GET", "/", Authorization=f"Bearer {token}")).status == 200
        issuer.gone = True
        for seconds, status in ((600, 200), (3600, 503)):
            clock.advance(seconds)
            async with client(gateway.port) as http:
                token = issuer.token(clock)
                got = await http.ask("GET", "/", Authorization=f"Bearer {token}")
                assert got.status == status
        assert "retry-after" in got.headers
        assert len(app.seen) == 2
