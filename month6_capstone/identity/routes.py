"""Identity over HTTP: accounts, tokens, public keys.

The token endpoint answers success as RFC 6749 says and errors as problem documents whose `code`
is the error of that RFC (`invalid_client`, `invalid_scope`, …).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from month6_capstone.identity.client_address import client_address
from month6_capstone.identity.sign_in import Grant, SignIn
from month6_capstone.identity.wire import (
    JwksOut,
    LoginIn,
    RegisteredOut,
    RegisterIn,
    TokenOut,
    read_token_request,
)
from scalelab.errors import InvalidInput
from scalelab.security import SigningKey, jwks
from scalelab.web import problem_responses

JWKS_MAX_AGE_S = 300
"""A verifier sees a new key at the latest after this, unless an unknown kid makes it ask."""

STATUSES = {
    "credentials_wrong": 401,
    "invalid_request": 400,
    "invalid_scope": 400,
    "unsupported_grant_type": 400,
}

_FORM = "application/x-www-form-urlencoded"
_TOKEN_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["client_credentials"]},
                        "scope": {"type": "string"},
                        "client_id": {"type": "string"},
                        "client_secret": {"type": "string"},
                    },
                }
            }
        },
    }
}


def account_router(sign_in: SignIn, trusted_proxies: frozenset[str]) -> APIRouter:
    """Registration and login, for people."""
    router = APIRouter(prefix="/api/v1/auth", tags=["accounts"])

    def address_of(request: Request) -> str:
        return client_address(
            request.client.host if request.client else None,
            request.headers.get("x-forwarded-for"),
            trusted_proxies,
        )

    @router.post("/register", status_code=201, responses=problem_responses(409))
    async def register(body: RegisterIn) -> RegisteredOut:
        """Make an account."""
        return RegisteredOut(user_id=await sign_in.register(body.email, body.password))

    @router.post("/login", response_model=TokenOut, responses=problem_responses(401, 429))
    async def login(body: LoginIn, request: Request) -> Response:
        """An access token for the account's owner."""
        return _token(await sign_in.login(body.email, body.password, address_of(request)))

    return router


def token_router(sign_in: SignIn) -> APIRouter:
    """The OAuth token endpoint, for services."""
    router = APIRouter(tags=["tokens"])

    @router.post(
        "/oauth2/token",
        response_model=TokenOut,
        responses=problem_responses(401),
        openapi_extra=_TOKEN_FORM,
    )
    async def token(request: Request) -> Response:
        """A service's own token, by client credentials."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != _FORM:
            raise InvalidInput(f"send the form as {_FORM}", code="unsupported_media_type")
        asked = read_token_request(await request.body(), request.headers.get("authorization"))
        return _token(sign_in.client_credentials(asked.client_id, asked.client_secret, asked.scope))

    return router


def keys_router(published: tuple[SigningKey, ...]) -> APIRouter:
    """The public keys, for whoever verifies."""
    router = APIRouter(tags=["keys"])
    document = jwks(published)

    @router.get("/.well-known/jwks.json", response_model=JwksOut)
    async def public_keys() -> Response:
        """The keys that tokens of this issuer may be signed with."""
        headers = {"cache-control": f"public, max-age={JWKS_MAX_AGE_S}"}
        return JSONResponse(document, headers=headers)

    return router


def _token(grant: Grant) -> Response:
    body = TokenOut(
        access_token=grant.access_token,
        expires_in=grant.expires_in_s,
        scope=" ".join(sorted(grant.scopes)),
    )
    # RFC 6749 section 5.1: nobody on the way keeps a token.
    return JSONResponse(body.model_dump(), headers={"cache-control": "no-store"})
