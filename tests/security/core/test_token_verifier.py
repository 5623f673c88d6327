"""Every forged token ends in Unauthenticated, with a constant code, whatever it is made of."""

from __future__ import annotations

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from scalelab.clock import ManualClock
from scalelab.errors import Unauthenticated, Unavailable
from scalelab.security import HttpJwks, SigningKey, StaticJwks, TokenIssuer, TokenVerifier, jwks
from tests.security.core.token_forge import FORGED, Case, Forge


def make(clock: ManualClock, **options: int) -> tuple[Forge, TokenVerifier]:
    forge = Forge(now_s=int(clock.now().timestamp()))
    source = StaticJwks(jwks([forge.key]))
    return forge, TokenVerifier(source, forge.issuer, forge.audience, clock, **options)


@pytest.mark.parametrize("case", FORGED, ids=lambda case: case.name)
async def test_forged_token_is_unauthenticated(case: Case) -> None:
    """V1 and V2: no other exception, a stable code, and nothing is remembered of it."""
    forge, verifier = make(ManualClock())
    token = case.build(forge)
    for _ in range(2):
        with pytest.raises(Unauthenticated) as caught:
            await verifier.verify(token)
        assert caught.value.stable_code == case.code


@pytest.mark.parametrize("token", [None, ""])
async def test_no_token_is_told_apart_from_a_bad_one(token: str | None) -> None:
    """A caller that sent nothing learns that it must log in."""
    _, verifier = make(ManualClock())
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.stable_code == "token_missing"


async def test_good_tokens_name_their_principal() -> None:
    """The control: what the forge signs untouched is accepted, in every allowed spelling."""
    forge, verifier = make(ManualClock())
    principal = await verifier.verify(forge.signed())
    assert principal.subject == "user-1"
    assert principal.scopes == {"shop"}
    assert principal.client_id is None
    assert principal.expires_at.timestamp() == forge.now_s + 300
    for header, claims in (
        (forge.header(typ="application/AT+JWT"), forge.claims()),
        (forge.header(x="unknown members are ignored"), forge.claims(extra={"a": [1]})),
        (forge.header(), forge.claims(aud=["other", forge.audience])),
        (forge.header(), forge.claims(exp=forge.now_s - 30)),
        (forge.header(), forge.claims(nbf=forge.now_s + 30, iat=forge.now_s + 30)),
        (forge.header(), forge.claims(exp=forge.now_s + 0.5, client_id="orders")),
    ):
        await verifier.verify(forge.signed(header, claims))


@given(token=st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_text_is_refused_or_unread(token: str) -> None:
    """V1 for arbitrary text."""
    _, verifier = make(ManualClock())
    with pytest.raises(Unauthenticated):
        asyncio.run(verifier.verify(token))


@given(header=st.binary(max_size=60), payload=st.binary(max_size=60), data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_signed_bytes_are_refused(header: bytes, payload: bytes, data: st.DataObject) -> None:
    """V1 for arbitrary bytes under a true signature, in header, claims or both."""
    forge, verifier = make(ManualClock())
    use_header = data.draw(st.booleans())
    token = forge.signed(header or b" " if use_header else None, payload or b" ")
    with pytest.raises(Unauthenticated):
        asyncio.run(verifier.verify(token))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(name=st.sampled_from(["iss", "aud", "sub", "exp", "iat", "nbf", "jti", "scope"]), value=...)
@settings(max_examples=300, deadline=None)
def test_any_claim_value_is_accepted_or_unauthenticated(
    name: str, value: bool | int | float | str | list[int] | dict[str, str] | None
) -> None:
    """V1 for well-formed JSON of any type in the place of a claim."""
    forge, verifier = make(ManualClock())
    token = forge.signed(claims=json.dumps({**forge.claims(), name: value}).encode())
    try:
        asyncio.run(verifier.verify(token))
    except Unauthenticated:
        return


@given(value=json_values, name=st.sampled_from(["alg", "kid", "typ", "crit", "jwk", "x"]))
@settings(max_examples=200, deadline=None)
def test_any_header_value_is_accepted_or_unauthenticated(value: object, name: str) -> None:
    """V1 for well-formed JSON of any type in the header."""
    forge, verifier = make(ManualClock())
    token = forge.signed(json.dumps({**forge.header(), name: value}).encode())
    try:
        asyncio.run(verifier.verify(token))
    except Unauthenticated:
        return


async def test_one_changed_character_anywhere_is_refused() -> None:
    """No position of a token is without meaning."""
    forge, verifier = make(ManualClock())
    token = forge.signed()
    for at, character in enumerate(token):
        changed = token[:at] + ("A" if character != "A" else "B") + token[at + 1 :]
        with pytest.raises(Unauthenticated):
            await verifier.verify(changed)


async def test_remembered_token_is_refused_after_it_expired() -> None:
    """V3: the memory does not outlive the token, whichever clock says so."""
    clock = ManualClock()
    forge, verifier = make(clock)
    token = forge.signed(claims=forge.claims(exp=forge.now_s + 20))
    await verifier.verify(token)
    clock.step_wall(51)
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.stable_code == "token_expired"


async def test_memory_of_tokens_is_bounded_and_forgets_the_oldest() -> None:
    """A caller with endless good tokens cannot fill the memory; the latest used stay."""
    source = CountingJwks(key := SigningKey.generate())
    clock = ManualClock()
    verifier = TokenVerifier(source, "i", "a", clock, cache_limit=3)
    issuer = TokenIssuer(key, "i", "a", clock)
    tokens = [issuer.issue("u", ["s"], 300) for _ in range(4)]
    for token in (*tokens[:3], tokens[0], tokens[3]):
        await verifier.verify(token)
    asked = source.asked
    await verifier.verify(tokens[0])
    assert source.asked == asked, "the latest used was forgotten"
    await verifier.verify(tokens[1])
    assert source.asked == asked + 1, "the oldest was still remembered"


class CountingJwks:
    """A fixed set that counts how often it is asked: once per verification of a signature."""

    generation = 0

    def __init__(self, key: SigningKey) -> None:
        self._inner = StaticJwks(jwks([key]))
        self.asked = 0

    async def key(self, kid: str) -> EllipticCurvePublicKey | None:
        self.asked += 1
        return await self._inner.key(kid)


class IssuerStub:
    """An issuer's JWKS endpoint under the test's control."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.fetches = 0
        self.away = False

    async def fetch(self, _url: str) -> bytes:
        self.fetches += 1
        if self.away:
            raise Unavailable("away")
        return json.dumps(jwks(self.keys)).encode()


async def test_thousand_unknown_kids_cost_one_fetch_per_interval() -> None:
    """Case 18: invented kids do not turn this service into a weapon against the issuer."""
    clock = ManualClock()
    forge = Forge(now_s=int(clock.now().timestamp()))
    stub = IssuerStub(forge.key)
    source = HttpJwks("https://issuer.test/jwks", stub.fetch, clock=clock, min_interval_s=10)
    verifier = TokenVerifier(source, forge.issuer, forge.audience, clock)
    tokens = [forge.signed(forge.header(kid=f"unknown-{n}")) for n in range(1000)]
    results = await asyncio.gather(*map(verifier.verify, tokens), return_exceptions=True)
    assert {type(result) for result in results} == {Unauthenticated}
    assert stub.fetches == 1
    for second in range(1, 11):
        clock.advance(1)
        with pytest.raises(Unauthenticated):
            await verifier.verify(tokens[second])
        assert stub.fetches == (1 if second < 10 else 2)


async def test_rotated_key_is_found_and_retired_key_is_refused() -> None:
    """Case 40 and V3: after a rotation the new key works, and remembered tokens of the old die."""
    clock = ManualClock()
    forge = Forge(now_s=int(clock.now().timestamp()))
    stub = IssuerStub(forge.key)
    source = HttpJwks("https://issuer.test/jwks", stub.fetch, clock=clock, min_interval_s=10)
    verifier = TokenVerifier(source, forge.issuer, forge.audience, clock)
    old = forge.signed()
    await verifier.verify(old)
    fresh = SigningKey.generate()
    stub.keys = [fresh]
    clock.advance(10)
    new = forge.signed(forge.header(kid=fresh.kid), key=fresh)
    assert (await verifier.verify(new)).subject == "user-1"
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(old)
    assert caught.value.stable_code == "token_invalid"


async def test_issuer_that_was_never_reached_is_unavailable_not_unauthenticated() -> None:
    """A token nobody can judge is not called bad: the caller may try again."""
    clock = ManualClock()
    forge = Forge(now_s=int(clock.now().timestamp()))
    stub = IssuerStub(forge.key)
    stub.away = True
    source = HttpJwks("https://issuer.test/jwks", stub.fetch, clock=clock)
    verifier = TokenVerifier(source, forge.issuer, forge.audience, clock)
    with pytest.raises(Unavailable):
        await verifier.verify(forge.signed())


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "ES384"},
        {"alg": "HS256"},
        {"use": "enc"},
        {"kty": "RSA"},
        {"kty": "oct"},
        {"crv": "P-384"},
        {"x": "AAAA"},
        {"y": None},
        {"kid": 7},
    ],
    ids=str,
)
async def test_keys_bound_to_another_purpose_are_not_loaded(change: dict[str, object]) -> None:
    """Case 13 from the key's side: the set says what a key is for, the token does not."""
    clock = ManualClock()
    forge = Forge(now_s=int(clock.now().timestamp()))
    source = StaticJwks({"keys": [{**forge.key.public_jwk(), **change}, "no object", 7]})
    verifier = TokenVerifier(source, forge.issuer, forge.audience, clock)
    with pytest.raises(Unauthenticated):
        await verifier.verify(forge.signed())
