"""Reading a compact JWS without trusting a byte of it.

Only the three-part compact form, only canonical unpadded base64url, only JSON objects without
duplicate members, NaN or deep nesting. Two readers of one token must not be able to disagree.
Source: RFC 7515 sections 2, 3.1 and 4; RFC 8725 section 2.4.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import NoReturn, cast

TOKEN_LIMIT = 8 * 1024
"""Characters of a token; a longer one is refused unread."""

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class MalformedError(ValueError):
    """Not a compact JWS, or a part of it is not what its place demands."""


@dataclass(frozen=True, slots=True)
class CompactToken:
    """The parts of a token, none of them verified."""

    header: dict[str, object]
    payload: bytes
    signing_input: bytes
    signature: bytes


def split(token: str) -> CompactToken:
    """Take a compact JWS apart; MalformedError for anything else. Cost: linear, at most 8 KiB."""
    if len(token) > TOKEN_LIMIT:
        raise MalformedError("longer than the limit")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise MalformedError("not three base64url parts")
    header, payload, signature = match.groups()
    return CompactToken(
        header=strict_object(decode_base64url(header)),
        payload=decode_base64url(payload),
        signing_input=f"{header}.{payload}".encode("ascii"),
        signature=decode_base64url(signature),
    )


def decode_base64url(text: str) -> bytes:
    """Canonical, unpadded base64url; MalformedError where another text means the same bytes."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not base64url") from error
    if encode_base64url(data) != text:
        raise MalformedError("not canonical base64url")
    return data


def encode_base64url(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def strict_object(data: bytes) -> dict[str, object]:
    """One JSON object, UTF-8, no duplicate members, no NaN or infinity; else MalformedError."""
    try:
        value: object = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError("not a JSON object") from error
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    return cast("dict[str, object]", value)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("duplicate members")
    return members


def _no_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not JSON")
