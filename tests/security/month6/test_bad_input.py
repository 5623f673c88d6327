"""Bad input through the front door: a problem document, a stable code, and nothing changed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from month6_capstone.stack import Shop
from month6_capstone.topology import TOKEN_AUDIENCE, TOKEN_ISSUER
from scalelab.security import SigningKey
from tests.e2e.customer import Customer
from tests.fixtures.shop import SCARCE
from tests.security.core.token_forge import FORGED, Forge
from tests.security.core.token_forge import Case as Forgery
from tests.security.month6.bad_requests import CASES, GOOD, ORDERS, SCARCE_LEFT, Case
from tests.security.month6.stores import Stores

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}
LEAKS = ("Traceback", "psycopg", "SELECT ", "127.0.0.1", "site-packages", "password=")


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

    def forging(self) -> Forge:
        """The forge, on time: what it says of the future must not have come true meanwhile."""
        self.forge.now_s = int(time.time())
        return self.forge


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
    token = forgery.build(scene.forging()).encode("utf-8", "surrogatepass")
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
        "internal": scene.forging().signed(claims=scene.forge.claims(scope="internal")),
        "unscoped": scene.forging().signed(claims=scene.forge.claims(scope="")),
    }
    value = None if authorization is None else authorization.format(**tokens)
    answer = send(scene, Case("", status, code, headers={"Authorization": value}))
    assert (answer.status_code, problem_of(answer)["code"]) == (status, code)
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert scene.stores.digests() == scene.before


def test_the_forge_can_also_tell_the_truth(scene: Scene) -> None:
    """The refusals above are no accident of the tokens' making: the same one, true, is taken."""
    token = scene.forging().signed()
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
