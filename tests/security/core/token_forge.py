"""Builds good and forged access tokens; the cases every door that takes tokens must refuse.

A door's own suite imports FORGED and asks for each: 401, a stable code, no other exception.
Numbers in the names follow the project's list of token attacks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from scalelab.security import SigningKey
from scalelab.security.compact import decode_base64url, encode_base64url

ABSENT = object()
"""As a member's value: leave the member out."""

Members = Mapping[str, object]


class Forge:
    """Everything an attacker may know or own, and the issuer's key to sign odd claims with."""

    def __init__(
        self,
        *,
        now_s: int,
        issuer: str = "https://issuer.test",
        audience: str = "shop",
        key: SigningKey | None = None,
    ) -> None:
        self.now_s = now_s
        self.issuer = issuer
        self.audience = audience
        self.key = key or SigningKey.generate()
        self.foreign_key = SigningKey.generate()

    def header(self, **changes: object) -> dict[str, object]:
        return _merged({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid}, changes)

    def claims(self, **changes: object) -> dict[str, object]:
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": "user-1",
            "scope": "shop",
            "iat": self.now_s,
            "exp": self.now_s + 300,
            "jti": "token-1",
        }
        return _merged(claims, changes)

    def signed(
        self,
        header: Members | bytes | None = None,
        claims: Members | bytes | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """A token with a true ES256 signature over whatever header and claims are given."""
        text = f"{_part(header or self.header())}.{_part(claims or self.claims())}"
        return f"{text}.{encode_base64url(_ecdsa((key or self.key).private, text))}"

    def hmac_signed(self, secret: bytes, **header: object) -> str:
        """A token signed HS256 with `secret`: the confusion of a public key for a secret."""
        text = f"{_part(self.header(**{'alg': 'HS256', **header}))}.{_part(self.claims())}"
        mac = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        return f"{text}.{encode_base64url(mac)}"

    def unsigned(self, alg: object, signature: str = "") -> str:
        return f"{_part(self.header(alg=alg))}.{_part(self.claims())}.{signature}"

    def public(self, encoding: Encoding) -> bytes:
        public_key = self.key.private.public_key()
        return public_key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Case:
    """One forgery. build: makes it. code: the stable code of the refusal."""

    name: str
    build: Callable[[Forge], str]
    code: str = "token_invalid"


def _merged(base: dict[str, object], changes: Members) -> dict[str, object]:
    merged = {**base, **changes}
    return {name: value for name, value in merged.items() if value is not ABSENT}


def _part(value: Members | bytes) -> str:
    return encode_base64url(value if isinstance(value, bytes) else json.dumps(value).encode())


def _ecdsa(private: ec.EllipticCurvePrivateKey, text: str) -> bytes:
    r, s = decode_dss_signature(private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _rsa_signed(forge: Forge, alg: str) -> str:
    private = rsa.generate_private_key(65537, 2048)
    text = f"{_part(forge.header(alg=alg))}.{_part(forge.claims())}"
    scheme = (
        padding.PKCS1v15() if alg == "RS256" else padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    )
    return f"{text}.{encode_base64url(private.sign(text.encode(), scheme, hashes.SHA256()))}"


def _with_signature(forge: Forge, change: Callable[[bytes], bytes]) -> str:
    head, _, signature = forge.signed().rpartition(".")
    return f"{head}.{encode_base64url(change(decode_base64url(signature)))}"


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _flipped_payload(forge: Forge) -> str:
    header, payload, signature = forge.signed().split(".")
    changed = decode_base64url(payload).replace(b'"shop"', b'"root"')
    return f"{header}.{encode_base64url(changed)}.{signature}"


def _loose_last_character(forge: Forge) -> str:
    """The same signature bytes under another spelling: unused low bits set."""
    token = forge.signed()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) + 1]


def _raw_claims(forge: Forge, text: str) -> str:
    """Claims as JSON text that json.dumps would not write; {} is where `text` goes."""
    good = json.dumps(forge.claims(exp=ABSENT))
    return forge.signed(claims=(good[:-1] + "," + text + "}").encode())


def _json_serialization(forge: Forge) -> str:
    protected, payload, signature = forge.signed().split(".")
    return json.dumps({"protected": protected, "payload": payload, "signature": signature})


_HEADER = [
    Case("05-alg-missing", lambda f: f.signed(f.header(alg=ABSENT))),
    Case("06-alg-list", lambda f: f.signed(f.header(alg=["ES256"]))),
    Case("06-alg-number", lambda f: f.signed(f.header(alg=256))),
    Case("13-alg-es384-on-es256-key", lambda f: f.signed(f.header(alg="ES384"))),
    Case("13-alg-es256k-on-es256-key", lambda f: f.signed(f.header(alg="ES256K"))),
    Case("13-alg-lower-case", lambda f: f.signed(f.header(alg="es256"))),
    Case("15-kid-is-a-path", lambda f: f.signed(f.header(kid="../../dev/null"))),
    Case("16-kid-is-sql", lambda f: f.signed(f.header(kid="' UNION SELECT 'x' --"))),
    Case("17-kid-nul", lambda f: f.signed(f.header(kid=f.key.kid + "\0"))),
    Case("17-kid-4k", lambda f: f.signed(f.header(kid="k" * 4096))),
    Case("17-kid-object", lambda f: f.signed(f.header(kid={"a": 1}))),
    Case("17-kid-missing", lambda f: f.signed(f.header(kid=ABSENT))),
    Case("17-kid-empty", lambda f: f.signed(f.header(kid=""))),
    Case("19-jku", lambda f: f.signed(f.header(jku="https://evil.test/jwks"))),
    Case("20-x5u", lambda f: f.signed(f.header(x5u="https://evil.test/cert"))),
    Case(
        "21-embedded-jwk",
        lambda f: f.signed(f.header(jwk=f.foreign_key.public_jwk()), key=f.foreign_key),
    ),
    Case("22-unknown-crit", lambda f: f.signed(f.header(crit=["exp2"], exp2=1))),
    Case("23-b64-false", lambda f: f.signed(f.header(b64=False, crit=["b64"]))),
    Case("27-zip", lambda f: f.signed(f.header(zip="DEF"))),
    Case(
        "28-pbes2",
        lambda f: f.signed(f.header(alg="PBES2-HS256+A128KW", p2c=10**9, p2s="c2FsdA")),
    ),
    Case("38-typ-id-token", lambda f: f.signed(f.header(typ="JWT"))),
    Case("38-typ-refresh-token", lambda f: f.signed(f.header(typ="rt+jwt"))),
    Case("38-typ-missing", lambda f: f.signed(f.header(typ=ABSENT))),
    Case("38-typ-list", lambda f: f.signed(f.header(typ=["at+jwt"]))),
]

_SIGNATURE = [
    Case("01-none-with-signature", lambda f: f.unsigned("none", "AAAA")),
    Case("02-none-in-odd-case", lambda f: f.unsigned("nOnE", "AAAA")),
    Case("03-hs256-with-public-pem", lambda f: f.hmac_signed(f.public(Encoding.PEM))),
    Case("04-hs256-with-public-der", lambda f: f.hmac_signed(f.public(Encoding.DER))),
    Case(
        "04-hs256-with-jwk-text",
        lambda f: f.hmac_signed(json.dumps(f.key.public_jwk()).encode()),
    ),
    Case("04-hmac-under-es256", lambda f: f.hmac_signed(f.public(Encoding.PEM), alg="ES256")),
    Case("07-r-and-s-zero", lambda f: _with_signature(f, lambda _: bytes(64))),
    Case("08-short-signature", lambda f: _with_signature(f, lambda s: s[:32])),
    Case("08-long-signature", lambda f: _with_signature(f, lambda s: s + b"\0")),
    Case("09-flipped-signature-bit", lambda f: _with_signature(f, lambda s: _flip(s, 40))),
    Case("10-flipped-payload", _flipped_payload),
    Case("11-hs256-empty-secret", lambda f: f.hmac_signed(b"")),
    Case("11-hs256-dictionary-secret", lambda f: f.hmac_signed(b"secret")),
    Case("12-rs256", lambda f: _rsa_signed(f, "RS256")),
    Case("12-ps256", lambda f: _rsa_signed(f, "PS256")),
    Case("14-foreign-key-under-our-kid", lambda f: f.signed(key=f.foreign_key)),
    Case(
        "14-foreign-key-under-its-kid",
        lambda f: f.signed(f.header(kid=f.foreign_key.kid), key=f.foreign_key),
    ),
]

_FORMAT = [
    Case("01-none-unsigned", lambda f: f.unsigned("none"), "token_malformed"),
    Case("08-empty-signature", lambda f: f.unsigned("ES256"), "token_malformed"),
    Case(
        "24-duplicate-header-member",
        lambda f: f.signed(
            f'{{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"{f.key.kid}"}}'.encode()
        ),
        "token_malformed",
    ),
    Case(
        "24-duplicate-claim",
        lambda f: _raw_claims(f, f'"exp":{f.now_s + 300},"sub":"user-2"'),
        "token_malformed",
    ),
    Case("25-json-serialization", _json_serialization, "token_malformed"),
    Case("25-header-is-a-list", lambda f: f.signed(b'["ES256"]'), "token_malformed"),
    Case("25-claims-are-a-string", lambda f: f.signed(claims=b'"sub"'), "token_malformed"),
    Case("25-header-not-utf-8", lambda f: f.signed(b'{"alg":"\xff"}'), "token_malformed"),
    Case("26-jwe-five-parts", lambda f: f.signed() + ".AAAA.AAAA", "token_malformed"),
    Case("29-two-parts", lambda f: f.signed().rpartition(".")[0], "token_malformed"),
    Case("29-four-parts", lambda f: f.signed() + ".AAAA", "token_malformed"),
    Case("29-padding", lambda f: f.signed() + "==", "token_malformed"),
    Case("29-loose-last-character", _loose_last_character, "token_malformed"),
    Case("29-inner-space", lambda f: f.signed().replace(".", " .", 1), "token_malformed"),
    Case("29-trailing-newline", lambda f: f.signed() + "\n", "token_malformed"),
    Case("29-non-ascii", lambda f: f.signed() + "\u00e9", "token_malformed"),
    Case("29-lone-surrogate", lambda f: f.signed() + "\ud800", "token_malformed"),
    Case("29-standard-base64", lambda f: f.signed().replace(".", ".+", 1), "token_malformed"),
    Case("30-64-kilobytes", lambda f: f.signed(f.header(x="x" * 65536)), "token_malformed"),
    Case("30-deep-header", lambda f: f.signed(b"[" * 4000), "token_malformed"),
    Case("30-deep-claims", lambda f: f.signed(claims=b'{"a":' * 1100), "token_malformed"),
    Case("33-exp-nan", lambda f: _raw_claims(f, '"exp":NaN'), "token_malformed"),
    Case("33-exp-infinity", lambda f: _raw_claims(f, '"exp":Infinity'), "token_malformed"),
    Case("33-exp-5000-digits", lambda f: _raw_claims(f, '"exp":' + "9" * 5000), "token_malformed"),
]

_CLAIMS = [
    Case("31-expired", lambda f: f.signed(claims=f.claims(exp=f.now_s - 31)), "token_expired"),
    Case("32-no-exp", lambda f: f.signed(claims=f.claims(exp=ABSENT))),
    Case("33-exp-string", lambda f: f.signed(claims=f.claims(exp=str(f.now_s + 300)))),
    Case("33-exp-true", lambda f: f.signed(claims=f.claims(exp=True))),
    Case("33-exp-null", lambda f: f.signed(claims=f.claims(exp=None))),
    Case("33-exp-1e400", lambda f: _raw_claims(f, '"exp":1e400')),
    Case("33-exp-negative", lambda f: f.signed(claims=f.claims(exp=-1))),
    Case("33-exp-beyond-time", lambda f: f.signed(claims=f.claims(exp=10**400))),
    Case("34-nbf-ahead", lambda f: f.signed(claims=f.claims(nbf=f.now_s + 60))),
    Case("34-nbf-string", lambda f: f.signed(claims=f.claims(nbf="now"))),
    Case("35-iat-ahead", lambda f: f.signed(claims=f.claims(iat=f.now_s + 3600))),
    Case("35-iat-missing", lambda f: f.signed(claims=f.claims(iat=ABSENT))),
    Case("36-iss-wrong", lambda f: f.signed(claims=f.claims(iss="https://evil.test"))),
    Case("36-iss-trailing-slash", lambda f: f.signed(claims=f.claims(iss=f.issuer + "/"))),
    Case("36-iss-missing", lambda f: f.signed(claims=f.claims(iss=ABSENT))),
    Case("36-iss-list", lambda f: f.signed(claims=f.claims(iss=[f.issuer]))),
    Case("37-aud-wrong", lambda f: f.signed(claims=f.claims(aud="other"))),
    Case("37-aud-prefix", lambda f: f.signed(claims=f.claims(aud=f.audience + "-admin"))),
    Case("37-aud-missing", lambda f: f.signed(claims=f.claims(aud=ABSENT))),
    Case("37-aud-others", lambda f: f.signed(claims=f.claims(aud=["a", "b"]))),
    Case("37-aud-object", lambda f: f.signed(claims=f.claims(aud={f.audience: 1}))),
    Case("39-sub-missing", lambda f: f.signed(claims=f.claims(sub=ABSENT))),
    Case("39-sub-empty", lambda f: f.signed(claims=f.claims(sub=""))),
    Case("39-sub-number", lambda f: f.signed(claims=f.claims(sub=7))),
    Case("39-sub-forges-a-log-line", lambda f: f.signed(claims=f.claims(sub="a\r\nb"))),
    Case("39-sub-long", lambda f: f.signed(claims=f.claims(sub="s" * 256))),
    Case("39-client-id-number", lambda f: f.signed(claims=f.claims(client_id=7))),
    Case("39-scope-list", lambda f: f.signed(claims=f.claims(scope=["shop", "internal"]))),
    Case("40-no-jti", lambda f: f.signed(claims=f.claims(jti=ABSENT))),
]

FORGED: list[Case] = [*_HEADER, *_SIGNATURE, *_FORMAT, *_CLAIMS]
