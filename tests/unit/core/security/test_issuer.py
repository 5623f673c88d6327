"""Issued tokens: what they say, and that the verifier agrees."""

from __future__ import annotations

import jwt
import pytest

from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput, Unauthenticated
from scalelab.security import SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks


async def test_issued_token_verifies_until_it_expires() -> None:
    """Issue, verify, expire: on one clock, leeway included."""
    clock, key = ManualClock(), SigningKey.generate()
    token = TokenIssuer(key, "iss", "aud", clock).issue("u-1", ["b", "a"], 60, client_id="orders")
    verifier = TokenVerifier(StaticJwks(jwks([key])), "iss", "aud", clock, leeway_s=30)
    principal = await verifier.verify(token)
    assert (principal.subject, principal.client_id) == ("u-1", "orders")
    assert principal.scopes == {"a", "b"}
    clock.advance(90)
    await verifier.verify(token)
    clock.advance(1)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


def test_token_names_its_type_and_key() -> None:
    """at+jwt in the header, so that no other kind of token passes for an access token."""
    key = SigningKey.generate()
    token = TokenIssuer(key, "iss", "aud", ManualClock()).issue("u-1", ["shop"], 60)
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}


def test_every_token_has_its_own_id() -> None:
    """Two tokens for the same subject in the same second differ."""
    issuer = TokenIssuer(SigningKey.generate(), "iss", "aud", ManualClock())
    claims = [
        jwt.decode(issuer.issue("u", [], 60), options={"verify_signature": False})
        for _ in range(10)
    ]
    assert len({one["jti"] for one in claims}) == 10


@pytest.mark.parametrize(
    ("subject", "scopes", "ttl_s"),
    [("", ["shop"], 60), ("u", ["two words"], 60), ("u", [""], 60), ("u", ["shop"], 0)],
)
def test_senseless_tokens_are_not_issued(subject: str, scopes: list[str], ttl_s: float) -> None:
    """A scope with a space would become two scopes."""
    issuer = TokenIssuer(SigningKey.generate(), "iss", "aud", ManualClock())
    with pytest.raises(InvalidInput):
        issuer.issue(subject, scopes, ttl_s)
