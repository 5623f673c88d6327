"""Identity's JSON and its one form."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote_plus

from pydantic import BaseModel, ConfigDict, Field

from month6_capstone.identity.credentials import EMAIL_MAX, PASSWORD_MAX, PASSWORD_MIN
from scalelab.errors import InvalidInput, Unauthenticated

_FIELDS_LIMIT = 10


class RegisterIn(BaseModel):
    """A new account."""

    model_config = ConfigDict(extra="forbid")
    email: Annotated[str, Field(max_length=EMAIL_MAX, examples=["demo@example.com"])]
    password: Annotated[str, Field(min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)]


class RegisteredOut(BaseModel):
    """The account made."""

    user_id: str


class LoginIn(BaseModel):
    """A try to log in; anything of a sane size is judged the same way."""

    model_config = ConfigDict(extra="forbid")
    email: Annotated[str, Field(max_length=EMAIL_MAX)]
    password: Annotated[str, Field(max_length=PASSWORD_MAX)]


class TokenOut(BaseModel):
    """RFC 6749 section 5.1. expires_in: seconds."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int
    scope: str


class JwkOut(BaseModel):
    """One public key, RFC 7517."""

    kty: str
    crv: str
    x: str
    y: str
    kid: str
    alg: str
    use: str


class JwksOut(BaseModel):
    """The keys that tokens of this issuer may be signed with."""

    keys: list[JwkOut]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client's request for a token of its own."""

    client_id: str
    client_secret: str
    scope: str | None


def read_token_request(body: bytes, authorization: str | None) -> TokenRequest:
    """Read the form of the token endpoint (RFC 6749 sections 2.3.1 and 4.4.2).

    The client names itself by HTTP Basic or in the form, not by both. Raises InvalidInput code
    `invalid_request` or `unsupported_grant_type`, Unauthenticated code `invalid_client`.
    """
    form = _read_form(body)
    if "grant_type" not in form:
        raise _invalid_request("grant_type is missing")
    if form["grant_type"] != "client_credentials":
        raise InvalidInput(
            "this grant type is not offered; use client_credentials",
            field="grant_type",
            code="unsupported_grant_type",
        )
    named_in_form = "client_id" in form or "client_secret" in form
    if authorization is not None and named_in_form:
        raise _invalid_request("name the client by the Authorization header or in the form")
    if authorization is not None:
        client_id, secret = _read_basic(authorization)
    else:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    return TokenRequest(client_id, secret, form.get("scope"))


def _read_form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FIELDS_LIMIT,
        )
    except ValueError as error:
        raise _invalid_request("the form cannot be read") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _invalid_request("a parameter is there twice")
    return form


def _read_basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError(scheme)
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
        if ":" not in decoded:
            raise ValueError("no secret")
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated(
            "the Authorization header is not HTTP Basic", code="invalid_client"
        ) from error
    client_id, _, secret = decoded.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def _invalid_request(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_request")
