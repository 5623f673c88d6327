"""A service's own token: asked for once, renewed early, kept while the issuer is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest

from scalelab.clock import ManualClock
from scalelab.errors import Unauthenticated, Unavailable
from scalelab.security import ServiceTokens


class TokenEndpoint:
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, str], tuple[str, str]]] = []
        self.error: Exception | None = None
        self.body: bytes | None = None
        self.gate: asyncio.Event | None = None

    async def post(self, url: str, fields: Mapping[str, str], basic: tuple[str, str]) -> bytes:
        self.calls.append((url, dict(fields), basic))
        await asyncio.sleep(0)  # as any network call, it lets others run
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        token = {"access_token": f"t{len(self.calls)}", "token_type": "Bearer", "expires_in": 100}
        return self.body or json.dumps(token).encode()


def make(endpoint: TokenEndpoint, clock: ManualClock) -> ServiceTokens:
    return ServiceTokens(
        "http://i.test/oauth2/token", "orders", "s3cret", "internal", clock,
        post=endpoint.post, timeout_s=0.05,
    )  # fmt: skip


async def test_parallel_callers_share_one_request() -> None:
    """Single flight; the request is a client-credentials grant with Basic authentication."""
    endpoint = TokenEndpoint()
    tokens = make(endpoint, ManualClock())
    assert set(await asyncio.gather(*(tokens.bearer() for _ in range(50)))) == {"t1"}
    assert endpoint.calls == [
        (
            "http://i.test/oauth2/token",
            {"grant_type": "client_credentials", "scope": "internal"},
            ("orders", "s3cret"),
        )
    ]


async def test_token_is_renewed_before_it_expires() -> None:
    """At 80 % of its life; a token in flight does not die on the way."""
    endpoint, clock = TokenEndpoint(), ManualClock()
    tokens = make(endpoint, clock)
    await tokens.bearer()
    clock.advance(79)
    assert await tokens.bearer() == "t1"
    clock.advance(1)
    assert await tokens.bearer() == "t2"


async def test_old_token_serves_while_the_issuer_is_away() -> None:
    """Asked again every second at most; after its expiry there is nothing left to send."""
    endpoint, clock = TokenEndpoint(), ManualClock()
    tokens = make(endpoint, clock)
    await tokens.bearer()
    endpoint.error = Unavailable("away")
    clock.advance(80)
    assert [await tokens.bearer() for _ in range(5)] == ["t1"] * 5
    assert len(endpoint.calls) == 2
    clock.advance(20)
    with pytest.raises(Unavailable):
        await tokens.bearer()
    endpoint.error = None
    assert await tokens.bearer() == "t4"


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"expires_in": 5}', b'{"access_token": 7, "expires_in": 5}',
     b'{"access_token": "t", "expires_in": "5"}'],
)  # fmt: skip
async def test_answer_that_cannot_be_read_is_unavailable(body: bytes) -> None:
    """A broken issuer is an outage, not a crash of the caller."""
    endpoint = TokenEndpoint()
    endpoint.body = body
    with pytest.raises(Unavailable):
        await make(endpoint, ManualClock()).bearer()


async def test_silent_endpoint_is_unavailable_after_the_deadline() -> None:
    """Nobody waits without an end."""
    endpoint = TokenEndpoint()
    endpoint.gate = asyncio.Event()
    with pytest.raises(Unavailable):
        await make(endpoint, ManualClock()).bearer()


async def test_unknown_client_is_told_so() -> None:
    """A wrong secret is not an outage: retrying would not help."""
    endpoint = TokenEndpoint()
    endpoint.error = Unauthenticated("no", code="client_refused")
    with pytest.raises(Unauthenticated):
        await make(endpoint, ManualClock()).bearer()
