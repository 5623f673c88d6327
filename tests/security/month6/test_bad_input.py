"""Bad input through the front door: a problem document, a stable code, and nothing changed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from month6_capstone.load import PAYING_CARD
from month6_capstone.stack import Shop
from month6_capstone.topology import DEMO_EMAIL, TOKEN_AUDIENCE, TOKEN_ISSUER
from scalelab.security import SigningKey
from tests.e2e.customer import Customer
from tests.security.core.token_forge import FORGED, Forge
from tests.security.core.token_forge import Case as Forgery
from tests.security.month6.stores import Stores

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}
LEAKS = ("Traceback", "psycopg", "SELECT ", "127.0.0.1", "site-packages", "password=")

ORDERS = "/api/v1/orders"
SCARCE, SCARCE_LEFT = "p-0040", 5
LINE: dict[str, Any] = {"product_id": "p-0001", "quantity": 1}


@dataclass(frozen=True, slots=True)
class Scene:
    """The shop at rest, what stands in it, and who asks. key, order_id: of an order of `me`."""

    shop: Shop
    me: Customer
    forge: Forge
    key: str
    order_id: str
    stores: Stores
    before: Mapping[str, str]


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


@pytest.fixture(scope="module")
def scene(shop: Shop) -> Iterator[Scene]:
    """An order that stands, a product that is nearly sold out, and all stores at rest.

    No test of this module changes anything, so what is stored at its end is what was there here.
    """
    me = Customer.signed_in(shop, 3)
    key = f"stands-{uuid4()}"
    placed = me.place(key=key)
    assert placed.status_code == 202, placed.text
    order_id = placed.json()["order_id"]
    me.wait_for(order_id, "confirmed")
    with psycopg.connect(shop.addresses.dsns["inventory"], autocommit=True) as connection:
        connection.execute(
            "UPDATE stock SET initial = held + reserved + %s, available = %s WHERE product_id = %s",
            (SCARCE_LEFT, SCARCE_LEFT, SCARCE),
        )
    [key_file] = (shop.addresses.secrets / "signing-keys").glob("*.pem")
    forge = Forge(
        now_s=int(time.time()),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        key=SigningKey.load(key_file),
    )
    with Stores(shop) as stores:
        before = stores.at_rest()
        yield Scene(shop, me, forge, key, order_id, stores, before)
        assert stores.at_rest() == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_and_changes_nothing(scene: Scene, case: Case) -> None:
    """The status and the code say what was wrong; every row of every store is as before."""
    answer = send(scene, case)
    assert (answer.status_code, problem_of(answer)["code"]) == (case.status, case.code)
    if case.status == 405:
        assert answer.headers["Allow"]
    assert scene.stores.digests() == scene.before


@pytest.mark.parametrize("forgery", FORGED, ids=lambda forgery: forgery.name)
def test_a_forged_token_orders_nothing(scene: Scene, forgery: Forgery) -> None:
    """Signed by nobody, by somebody else, for somebody else, too late, or oddly: refused."""
    token = forgery.build(scene.forge).encode("utf-8", "surrogatepass")
    head = (
        f"POST {ORDERS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: forged\r\nContent-Length: {len(GOOD)}\r\nAuthorization: Bearer "
    )
    status, document = exchange(scene.shop, head.encode() + token + b"\r\n\r\n" + GOOD.encode())
    expected = UNFIT_FOR_A_HEADER.get(forgery.name, (401, forgery.code))
    assert (status, document["code"]) == expected
    assert scene.stores.digests() == scene.before


UNFIT_FOR_A_HEADER = {
    "30-64-kilobytes": (431, "header_too_large"),
    "29-trailing-newline": (400, "bad_request"),
}
"""Forgeries that no header can carry: the door refuses the head before it looks at the token."""


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        (None, 401, "token_missing"),
        ("", 401, "token_malformed"),
        ("Bearer", 401, "token_malformed"),
        ("Basic dXNlcjpwYXNz", 401, "token_malformed"),
        ("Bearer {mine} {mine}", 401, "token_malformed"),
        ("Bearer {internal}", 403, "scope_missing"),
        ("Bearer {unscoped}", 403, "scope_missing"),
    ],
)
def test_without_a_customers_token_nothing_is_ordered(
    scene: Scene, authorization: str | None, status: int, code: str
) -> None:
    """No token, another scheme, or a token that is good for something else."""
    tokens = {
        "mine": scene.me.token,
        "internal": scene.forge.signed(claims=scene.forge.claims(scope="internal")),
        "unscoped": scene.forge.signed(claims=scene.forge.claims(scope="")),
    }
    value = None if authorization is None else authorization.format(**tokens)
    answer = send(scene, Case("", status, code, headers={"Authorization": value}))
    assert (answer.status_code, problem_of(answer)["code"]) == (status, code)
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert scene.stores.digests() == scene.before


def test_the_forge_can_also_tell_the_truth(scene: Scene) -> None:
    """The refusals above are no accident of the tokens' making: the same one, true, is taken."""
    token = scene.forge.signed()
    got = httpx.get(
        f"{scene.shop.url}{ORDERS}", headers={"Authorization": f"Bearer {token}"}, timeout=20
    )
    assert got.status_code == 200, got.text


def test_a_chunked_body_is_cut_off_at_the_limit(scene: Scene) -> None:
    """A body that does not say how long it is has the same limit."""

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    try:
        answer = send(scene, Case("", 413, "body_too_large", endless()))
    except httpx.HTTPError:
        pass  # the door hung up on the rest of the body before we read its answer
    else:
        assert (answer.status_code, problem_of(answer)["code"]) == (413, "body_too_large")
    assert scene.stores.digests() == scene.before


def send(scene: Scene, case: Case) -> httpx.Response:
    """The case as a request of `me`, with a good key and type unless the case says otherwise."""
    known = {"{order}": scene.order_id, "{key}": scene.key}
    headers: dict[str, str | bytes | None] = {
        **scene.me.headers,
        "Content-Type": "application/json",
        "Idempotency-Key": f"bad-{uuid4()}",
    }
    headers |= {
        name: known.get(value, value) if isinstance(value, str) else value
        for name, value in case.headers.items()
    }
    content = GOOD if case.content is None and case.method == "POST" else case.content
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path = case.path.replace("{order}", scene.order_id)
    with httpx.Client(timeout=20) as client:
        request = client.build_request(
            case.method,
            f"{scene.shop.url}/",
            content=content,
            headers=[
                (name.encode(), value if isinstance(value, bytes) else value.encode())
                for name, value in headers.items()
                if value is not None
            ],
        )
        # As it stands: the client would tidy up a path that is meant to be bad.
        request.extensions["target"] = path.encode()
        return client.send(request)


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The answer's problem document, which is whole and tells nothing of the inside."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert document.keys() >= MEMBERS
    assert document["status"] == answer.status_code
    assert document["type"].endswith(document["code"])
    assert not [leak for leak in LEAKS if leak in answer.text]
    return document


def exchange(shop: Shop, request: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes as they are; the status and the problem document of the first answer."""
    address = ("127.0.0.1", shop.addresses.ports["gateway"])
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        body = answer.read()
        assert answer.getheader("Content-Type") == "application/problem+json", body
        return answer.status, json.loads(body)
