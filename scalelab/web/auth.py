"""Authentication as a FastAPI dependency: a verified principal, or a problem."""

from __future__ import annotations

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from scalelab.errors import Forbidden, Unauthenticated
from scalelab.security import Principal, TokenVerifier
from scalelab.web.observation import USER


class RequireToken(SecurityBase):
    """Reads `Authorization: Bearer`, verifies it, checks the scope, names the user in the log."""

    def __init__(self, verifier: TokenVerifier, scope: str | None) -> None:
        self.model = HTTPBearer(bearerFormat="JWT")
        self.scheme_name = "bearer"
        self._verifier = verifier
        self._scope = scope

    async def __call__(self, request: Request) -> Principal:
        principal = await self._verifier.verify(_bearer(request))
        request.scope[USER] = principal.subject
        if self._scope is not None and self._scope not in principal.scopes:
            raise Forbidden(f"This needs the scope {self._scope}.", code="insufficient_scope")
        return principal


def require(verifier: TokenVerifier, scope: str | None = None) -> RequireToken:
    """A dependency that gives the Principal of the request's token.

    In a function that builds routes: `shopper = Depends(require(verifier, "shop"))`, then
    `async def route(caller: Principal = shopper)`. (An Annotated with a local name in it cannot
    be resolved by FastAPI under `from __future__ import annotations`.)

    401 with code token_missing, token_malformed, token_expired or token_invalid; 403 with code
    insufficient_scope where `scope` is named and the token lacks it.
    """
    return RequireToken(verifier, scope)


def _bearer(request: Request) -> str | None:
    values = request.headers.getlist("authorization")
    if not values:
        return None
    if len(values) > 1:
        raise Unauthenticated("Send one Authorization header.", code="token_malformed")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer":
        return None
    return token.strip(" ")
