"""Tokens over real HTTP: keys read from an issuer, a service's token asked for there."""

from __future__ import annotations

import base64
import socket
from urllib.parse import parse_qs

import pytest
from fastapi import APIRouter, Request, Response

from scalelab.clock import SystemClock
from scalelab.errors import Unauthenticated, Unavailable
from scalelab.security import (
    HttpJwks,
    ServiceTokens,
    SigningKey,
    TokenIssuer,
    TokenVerifier,
    http_fetch,
    jwks,
)
from tests.integration.core.web.served import served

KEY = SigningKey.generate()


def issuer_router(answers: list[int] | None = None) -> APIRouter:
    """A small identity service: its key set, and tokens for the client orders."""
    router = APIRouter()
    issuer = TokenIssuer(KEY, "iss", "aud", SystemClock())

    @router.get("/.well-known/jwks.json")
    async def keys() -> dict[str, list[dict[str, str]]]:
        return jwks([KEY])

    @router.get("/large")
    async def large() -> Response:
        return Response(b"x" * 200_000)

    @router.get("/moved")
    async def moved() -> Response:
        return Response(status_code=302, headers={"location": "/.well-known/jwks.json"})

    @router.post("/oauth2/token", response_model=None)
    async def token(request: Request) -> Response | dict[str, object]:
        form = parse_qs((await request.body()).decode())
        given = request.headers["authorization"].removeprefix("Basic ")
        if base64.b64decode(given) != b"orders:s3cret" or form["scope"] != ["internal"]:
            return Response(status_code=401)
        text = issuer.issue("orders", form["scope"], 60, client_id="orders")
        return {"access_token": text, "token_type": "Bearer", "expires_in": 60}

    return router


def dead_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}/x"


async def test_service_gets_a_token_that_another_service_accepts() -> None:
    """The whole way: client credentials at the issuer, bearer at the peer, keys from the issuer."""
    async with served(issuer_router()) as it:
        clock = SystemClock()
        tokens = ServiceTokens(f"{it.url}/oauth2/token", "orders", "s3cret", "internal", clock)
        source = HttpJwks(f"{it.url}/.well-known/jwks.json", http_fetch)
        principal = await TokenVerifier(source, "iss", "aud", clock).verify(await tokens.bearer())
    assert (principal.client_id, principal.scopes) == ("orders", {"internal"})


async def test_wrong_secret_is_refused_not_unavailable() -> None:
    """A retry would not help, and a breaker must not open for it."""
    async with served(issuer_router()) as it:
        url = f"{it.url}/oauth2/token"
        tokens = ServiceTokens(url, "orders", "wrong", "internal", SystemClock())
        with pytest.raises(Unauthenticated) as caught:
            await tokens.bearer()
    assert caught.value.stable_code == "client_refused"


@pytest.mark.parametrize("path", ["/large", "/moved", "/missing"])
async def test_odd_answers_are_unavailable(path: str) -> None:
    """Too large, redirected elsewhere, or not there: none of them is a key set."""
    async with served(issuer_router()) as it:
        with pytest.raises(Unavailable):
            await http_fetch(f"{it.url}{path}")


async def test_dead_issuer_is_unavailable() -> None:
    """A refused connection is mapped at the edge."""
    with pytest.raises(Unavailable):
        await http_fetch(dead_url())
    with pytest.raises(Unavailable):
        await ServiceTokens(dead_url(), "a", "b", "c", SystemClock()).bearer()
