"""What an access token must say before it counts, decided over plain values.

Rules: exact issuer; our audience among `aud`; subject, jti, exp and iat present; exp not more
than the leeway past, nbf and iat not more than the leeway ahead; scope is one string of words.
Every rule that fails ends in Unauthenticated with one of two codes: token_expired (only a token
that is otherwise good) or token_invalid.
Source: RFC 9068 sections 2.2 and 4, RFC 8725 section 3; differs in: client_id only for services.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from scalelab.errors import Unauthenticated
from scalelab.security.principal import Principal

_NAME_LIMIT = 255
_LATEST_S = 253402300799.0  # 9999-12-31T23:59:59Z, the last instant a datetime can hold


@dataclass(frozen=True, slots=True)
class Expectation:
    """issuer and audience this service accepts; leeway_s: tolerated clock difference, seconds."""

    issuer: str
    audience: str
    leeway_s: float


def invalid() -> Unauthenticated:
    """The one answer to a token that does not verify; it never says which rule failed."""
    return Unauthenticated("The access token is not valid here.", code="token_invalid")


def check_claims(claims: Mapping[str, object], expected: Expectation, *, now_s: float) -> Principal:
    """The principal these claims name. now_s: Unix time. Raises Unauthenticated only."""
    if claims.get("iss") != expected.issuer or not _names(claims.get("aud"), expected.audience):
        raise invalid()
    for early in ("nbf", "iat"):
        if early in claims and _instant(claims[early]) > now_s + expected.leeway_s:
            raise invalid()
    if "iat" not in claims:
        raise invalid()
    expires_s = _instant(claims.get("exp"))
    principal = Principal(
        subject=_name(claims.get("sub")),
        scopes=_scopes(claims.get("scope")),
        client_id=None if claims.get("client_id") is None else _name(claims["client_id"]),
        token_id=_name(claims.get("jti")),
        expires_at=datetime.fromtimestamp(expires_s, UTC),
    )
    if now_s > expires_s + expected.leeway_s:
        raise Unauthenticated("The access token has expired.", code="token_expired")
    return principal


def _names(claim: object, audience: str) -> bool:
    if isinstance(claim, list):
        return audience in cast("list[object]", claim)
    return claim == audience


def _instant(claim: object) -> float:
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        raise invalid()
    # Compare before converting: an int of 4,000 digits has no float.
    if not 0 <= claim <= _LATEST_S or not math.isfinite(claim):
        raise invalid()
    return float(claim)


def _name(claim: object) -> str:
    if not isinstance(claim, str) or not 0 < len(claim) <= _NAME_LIMIT or not claim.isprintable():
        raise invalid()
    return claim


def _scopes(claim: object) -> frozenset[str]:
    if claim is None:
        return frozenset()
    if not isinstance(claim, str):
        raise invalid()
    return frozenset(claim.split())
