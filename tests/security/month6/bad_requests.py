"""Bad requests, one of each kind: what is sent, and the status and code that refuse it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from month6_capstone.load import PAYING_CARD
from month6_capstone.topology import DEMO_EMAIL
from tests.fixtures.shop import SCARCE

ORDERS = "/api/v1/orders"
SCARCE_LEFT = 5
LINE: dict[str, Any] = {"product_id": "p-0001", "quantity": 1}


@dataclass(frozen=True, slots=True)
class Case:
    """One bad request. content: bytes or text as sent, else a document sent as JSON.

    headers: join the usual ones or replace them; None leaves one out. {order} and {key} in path
    and headers stand for an order that exists and its key.
    """

    name: str
    status: int
    code: str
    content: Any = None
    method: str = "POST"
    path: str = ORDERS
    headers: Mapping[str, str | bytes | None] = field(default_factory=dict[str, Any])


def order(**members: Any) -> dict[str, Any]:
    """A good order with some members replaced or added."""
    return {"lines": [LINE], "card_token": PAYING_CARD} | members


def line(**members: Any) -> dict[str, Any]:
    """A good order of one line with some of the line's members replaced or added."""
    return order(lines=[LINE | members])


def without(name: str) -> dict[str, Any]:
    """A good order without a member."""
    return {member: value for member, value in order().items() if member != name}


GOOD = json.dumps(order())
DEEP = '{"a":' * 200 + "1" + "}" * 200

MALFORMED = [
    Case("cut-off", 400, "malformed_json", '{"lines": ['),
    Case("no-json", 400, "malformed_json", "lines=p-0001"),
    Case("raw-nul", 400, "malformed_json", GOOD.replace("p-0001", "p-00\0")),
    Case("not-utf-8", 400, "malformed_json", GOOD.encode().replace(b"p-0001", b"p-\xff\xfe")),
    Case("deep", 400, "malformed_json", DEEP),
    Case("deep-brackets-only", 400, "malformed_json", "[" * 100_000),
    Case("text-after-it", 400, "malformed_json", GOOD + "}"),
    Case("long-digits", 400, "malformed_json", GOOD.replace(": 1}", ": " + "9" * 5000 + "}")),
    Case("empty", 422, "invalid_input", ""),
    Case("too-large", 413, "body_too_large", " " * (1024 * 1024) + GOOD),
]

SCHEMA = [
    Case(name, 422, "invalid_input", content)
    for name, content in {
        "list": [order()],
        "null": "null",
        "text": '"order"',
        "number": "1",
        "no-lines": without("lines"),
        "no-card": without("card_token"),
        "lines-null": order(lines=None),
        "lines-object": order(lines={"0": LINE}),
        "lines-text": order(lines="p-0001"),
        "lines-empty": order(lines=[]),
        "lines-51": order(lines=[{"product_id": f"p-{n:04d}", "quantity": 1} for n in range(51)]),
        "lines-20000": order(lines=[LINE] * 20_000),
        "line-null": order(lines=[None]),
        "line-text": order(lines=["p-0001"]),
        "line-empty": order(lines=[{}]),
        "product-twice": order(lines=[LINE, LINE]),
        "product-number": line(product_id=1),
        "product-null": line(product_id=None),
        "product-list": line(product_id=["p-0001"]),
        "product-empty": line(product_id=""),
        "product-upper": line(product_id="P-0001"),
        "product-nul": line(product_id="p-0001\0"),
        "product-newline": line(product_id="p-0001\n"),
        "product-sql": line(product_id="p-0001' OR '1'='1"),
        "product-path": line(product_id="../../p-0001"),
        "product-long": line(product_id="p" * 41),
        "product-surrogate": GOOD.replace("p-0001", "\\ud800"),
        "quantity-0": line(quantity=0),
        "quantity-negative": line(quantity=-1),
        "quantity-101": line(quantity=101),
        "quantity-huge": line(quantity=10**30),
        "quantity-float": line(quantity=1.5),
        "quantity-text": line(quantity="1"),
        "quantity-true": line(quantity=True),
        "quantity-null": line(quantity=None),
        "quantity-list": line(quantity=[1]),
        "quantity-1e400": GOOD.replace(": 1}", ": 1e400}"),
        "quantity-nan": GOOD.replace(": 1}", ": NaN}"),
        "price-in-line": line(unit_minor=1),
        "price-of-order": order(total_minor=1),
        "status": order(status="confirmed"),
        "other-user": order(user_id="somebody"),
        "order-id": order(order_id=str(uuid4())),
        "prototype": order(__proto__={"admin": True}),
        "card-number": order(card_token=4242424242424242),
        "card-null": order(card_token=None),
        "card-empty": order(card_token=""),
        "card-nul": order(card_token="tok_42\0"),
        "card-newline": order(card_token=PAYING_CARD + "\r\nX: y"),
        "card-surrogate": GOOD.replace(PAYING_CARD, "tok_\\ud800"),
        "card-long": order(card_token="tok_" + "4" * 65),
        "card-plain": order(card_token="4242424242424242"),
    }.items()
]

REFUSED = [
    Case("unknown-product", 422, "unknown_product", line(product_id="p-9999")),
    Case(
        "one-of-two-unknown",
        422,
        "unknown_product",
        order(lines=[LINE, {"product_id": "no-such-thing", "quantity": 1}]),
    ),
    Case(
        "one-of-two-sold-out",
        409,
        "out_of_stock",
        order(lines=[LINE, {"product_id": SCARCE, "quantity": SCARCE_LEFT + 1}]),
    ),
]

KEYS = [
    Case("no-key", 400, "idempotency_key_missing", headers={"Idempotency-Key": None}),
    Case("empty-key", 400, "idempotency_key_missing", headers={"Idempotency-Key": ""}),
    Case("long-key", 400, "idempotency_key_invalid", headers={"Idempotency-Key": "k" * 256}),
    Case("key-of-words", 400, "idempotency_key_invalid", headers={"Idempotency-Key": "a b"}),
    Case("key-not-ascii", 400, "idempotency_key_invalid", headers={"Idempotency-Key": b"k\xe9"}),
    Case(
        "key-of-another-body",
        422,
        "idempotency_key_reused",
        line(quantity=7),
        headers={"Idempotency-Key": "{key}"},
    ),
    Case(
        "key-of-another-card",
        422,
        "idempotency_key_reused",
        order(card_token="tok_4000000000000002"),
        headers={"Idempotency-Key": "{key}"},
    ),
]

TYPES = [
    Case(f"type-{name}", 415, "unsupported_media_type", GOOD, headers={"Content-Type": value})
    for name, value in {
        "none": None,
        "text": "text/plain",
        "form": "application/x-www-form-urlencoded",
        "multipart": "multipart/form-data; boundary=x",
        "xml": "application/xml",
    }.items()
]

HEADS = [
    Case("long-header", 431, "header_too_large", headers={"X-Long": "x" * 17_000}),
    Case("many-headers", 431, "too_many_headers", headers={f"X-{n}": "x" for n in range(101)}),
    Case("upgrade", 400, "upgrade_refused", headers={"Upgrade": "websocket"}),
    Case("expectation", 417, "expectation_failed", headers={"Expect": "miracles"}),
    *(
        Case(f"host-{host}", 421, "misdirected_request", headers={"Host": host})
        for host in ("evil.test", "127.0.0.1.evil.test", "127.0.0.2", "orders", "evil.test:80")
    ),
]


def read(name: str, status: int, code: str, path: str, **headers: str) -> Case:
    """A bad GET."""
    return Case(name, status, code, method="GET", path=path, headers=headers)


READS = [
    read("order-id-word", 422, "invalid_input", f"{ORDERS}/first"),
    read("order-id-sql", 422, "invalid_input", f"{ORDERS}/1'%20OR%20'1'='1"),
    read("order-id-long", 422, "invalid_input", f"{ORDERS}/{'a' * 4000}"),
    read("order-id-too-long", 414, "target_too_long", f"{ORDERS}/{'a' * 9000}"),
    read("order-id-of-no-order", 404, "unknown_order", f"{ORDERS}/{uuid4()}"),
    read("order-id-nil", 404, "unknown_order", f"{ORDERS}/{UUID(int=0)}"),
    read("order-id-nul", 400, "invalid_target", f"{ORDERS}/%00"),
    read("events-of-a-word", 422, "invalid_input", f"{ORDERS}/first/events"),
    read("events-of-no-order", 404, "unknown_order", f"{ORDERS}/{uuid4()}/events"),
    read(
        "events-after-a-word",
        422,
        "invalid_input",
        f"{ORDERS}/{{order}}/events",
        **{"Last-Event-ID": "x"},
    ),
    read(
        "events-after-much",
        422,
        "invalid_input",
        f"{ORDERS}/{{order}}/events",
        **{"Last-Event-ID": "9" * 40},
    ),
    read(
        "consistency-token-long",
        422,
        "invalid_input",
        f"{ORDERS}/{{order}}",
        **{"X-Consistency-Token": "v1." + "x" * 600},
    ),
    read("cursor-word", 422, "invalid_input", f"{ORDERS}?cursor=first"),
    read("cursor-long", 422, "invalid_input", f"{ORDERS}?cursor={'0' * 200}"),
    read("limit-0", 422, "invalid_input", f"{ORDERS}?limit=0"),
    read("limit-101", 422, "invalid_input", f"{ORDERS}?limit=101"),
    read("limit-negative", 422, "invalid_input", f"{ORDERS}?limit=-1"),
    read("limit-word", 422, "invalid_input", f"{ORDERS}?limit=all"),
    read("limit-digits", 422, "invalid_input", f"{ORDERS}?limit={'9' * 5000}"),
    read("product-upper", 422, "invalid_input", "/api/v1/products/P-0001"),
    read("product-unknown", 404, "unknown_product", "/api/v1/products/p-9999"),
    read("products-cursor", 400, "invalid_cursor", "/api/v1/products?cursor=%22"),
    read("products-limit", 422, "invalid_input", "/api/v1/products?limit=1000000"),
]

METHODS = [
    Case(f"{method}-{path}", 405, "method_not_allowed", GOOD, method=method, path=path)
    for method, path in [
        ("DELETE", ORDERS),
        ("PUT", ORDERS),
        ("PATCH", ORDERS),
        ("OPTIONS", ORDERS),
        ("PUT", f"{ORDERS}/{{order}}"),
        ("DELETE", f"{ORDERS}/{{order}}"),
        ("POST", f"{ORDERS}/{{order}}"),
        ("PATCH", f"{ORDERS}/{{order}}"),
        ("POST", f"{ORDERS}/{{order}}/events"),
        ("PUT", "/api/v1/products/p-0001"),
        ("POST", "/api/v1/products"),
        ("GET", "/api/v1/auth/login"),
        ("POST", "/.well-known/jwks.json"),
    ]
]

ROUTES = [
    Case(f"route-{path}", status, code, method="GET", path=path)
    for status, code, paths in [
        (
            404,
            "unknown_route",
            [
                "/",
                "/api",
                "/api/v1",
                "/api/v2/orders",
                "/API/V1/ORDERS",
                f"{ORDERS}/",
                f"{ORDERS}/{{order}}/refund",
                "/metrics",
                "/health/live",
                "/health/ready",
                "/docs",
                "/openapi.json",
                "/oauth2/token",
                "/internal/v1/prices?ids=p-0001",
                "/internal/v1/stock/p-0001",
                "/internal/v1/holds/{order}",
                "/v1/charges?order_id={order}",
                "/chaos/latency",
            ],
        ),
        (
            400,
            "invalid_target",
            [
                "/api/v1/products/../../../internal/v1/prices?ids=p-0001",
                "/api/v1/products/%2e%2e/%2e%2e/%2e%2e/internal/v1/prices?ids=p-0001",
                "/api/v1/products/..%2f..%2f..%2finternal/v1/prices",
                "//internal/v1/prices?ids=p-0001",
                "/api/v1/orders/..;/internal",
                "/api/v1/orders%00",
                "/api/v1/orders\\internal",
                "http://catalog/internal/v1/prices?ids=p-0001",
            ],
        ),
    ]
    for path in paths
]


def account(name: str, status: int, code: str, content: Any, path: str = "register") -> Case:
    """A bad request to make an account, or to log in."""
    headers = {"Authorization": None, "Idempotency-Key": None}
    return Case(name, status, code, content, path=f"/api/v1/auth/{path}", headers=headers)


LONG = "long-enough-for-this-shop"
NEW = {"email": "new@example.com", "password": LONG}
ACCOUNTS = [
    account("account-malformed", 400, "malformed_json", "{"),
    account("account-empty", 422, "invalid_input", {}),
    account("account-email-word", 422, "invalid_input", NEW | {"email": "new"}),
    account("account-email-nul", 422, "invalid_input", NEW | {"email": "n\0w@example.com"}),
    account("account-email-long", 422, "invalid_input", NEW | {"email": "n" * 400 + "@a.io"}),
    account("account-email-list", 422, "invalid_input", NEW | {"email": ["new@example.com"]}),
    account("account-email-newline", 422, "invalid_input", NEW | {"email": "a@b.io\nBcc: c@d.io"}),
    account("account-short-password", 422, "invalid_input", NEW | {"password": "short"}),
    account("account-long-password", 422, "invalid_input", NEW | {"password": "x" * 5000}),
    account("account-scope", 422, "invalid_input", NEW | {"scope": "admin"}),
    account("account-user-id", 422, "invalid_input", NEW | {"user_id": "me"}),
    account("account-taken", 409, "email_taken", NEW | {"email": DEMO_EMAIL}),
    account("account-taken-in-capitals", 409, "email_taken", NEW | {"email": DEMO_EMAIL.upper()}),
    account("login-wrong", 401, "credentials_wrong", NEW, "login"),
    account("login-nul", 401, "credentials_wrong", NEW | {"password": "\0" * 20}, "login"),
    account("login-sql", 401, "credentials_wrong", NEW | {"password": "' OR 1=1 --"}, "login"),
    account("login-number", 422, "invalid_input", NEW | {"password": 12345678901}, "login"),
    account("login-extra", 422, "invalid_input", NEW | {"scope": "internal"}, "login"),
]

CASES = [
    *MALFORMED,
    *SCHEMA,
    *REFUSED,
    *KEYS,
    *TYPES,
    *HEADS,
    *READS,
    *METHODS,
    *ROUTES,
    *ACCOUNTS,
]
