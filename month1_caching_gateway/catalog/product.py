"""A product and its representations: the pure part of the catalogue.

Each change that alters anything raises a product's `version` by one; a deleted one that is made
again goes on where it was. Everything else hangs on that number: the ETag names it, the cache
compares it.

Invariants (tests cite them)
    P1  Two different representations of a product never share an ETag.
    P2  A cursor gives back the position it was made from, or is refused.
Absent on purpose: signing the cursor. Every position in a public list is public; the digest is
there so that a damaged or hand-made cursor is an error and not a strange page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import asdict, dataclass

from scalelab.errors import CorruptData, InvalidInput

PRODUCT_ID = r"^[a-z0-9-]{1,40}$"
"""The form of a product id."""

_DIGEST_BYTES = 6
_CURSOR_PERSON = b"products"


@dataclass(frozen=True, slots=True)
class Product:
    """unit_minor: price of one in minor units of `currency` (cents), > 0. version: >= 1."""

    product_id: str
    name: str
    description: str
    category: str
    unit_minor: int
    currency: str
    version: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What a client may say about a product; the version is never theirs to say."""

    name: str
    description: str
    category: str
    unit_minor: int
    currency: str


def encode_product(product: Product) -> bytes:
    """Compact JSON for the cache. `decode_product` is its inverse."""
    return json.dumps(asdict(product), separators=(",", ":")).encode()


def decode_product(raw: bytes) -> Product:
    """Raises CorruptData for bytes that are no product of this shape (such as an older one's)."""
    try:
        return Product(**json.loads(raw))
    except (ValueError, TypeError) as error:
        raise CorruptData("a cached product is not readable") from error


def etag(product: Product, representation: int = 1) -> str:
    """The strong entity tag of the product's JSON, quotes included (P1).

    representation: which of its forms; raised or new when the JSON of a product changes its form,
    because old tags must not match new bytes.
    """
    return f'"{representation}-{product.version}"'


def page_etag(body: bytes) -> str:
    """The strong entity tag of a page of the list: its digest, as no version covers a page."""
    return f'"p-{hashlib.blake2s(body, digest_size=12).hexdigest()}"'


def draft_of(product: Product) -> Draft:
    """What a keeper would have to say to make this product."""
    return Draft(
        product.name, product.description, product.category, product.unit_minor, product.currency
    )


def encode_cursor(last_product_id: str) -> str:
    """An opaque position after `last_product_id` (P2)."""
    body = last_product_id.encode()
    return base64.urlsafe_b64encode(_digest(body) + body).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The product id a page begins after. Raises InvalidInput code `invalid_cursor` (P2)."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid_cursor() from error
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _digest(body) or encode_cursor(body.decode("ascii", "replace")) != cursor:
        raise _invalid_cursor()
    return body.decode("ascii")


def _digest(body: bytes) -> bytes:
    return hashlib.blake2s(body, digest_size=_DIGEST_BYTES, person=_CURSOR_PERSON).digest()


def _invalid_cursor() -> InvalidInput:
    return InvalidInput(
        "the cursor is not one that this list gave out; start again without it",
        field="cursor",
        code="invalid_cursor",
    )
