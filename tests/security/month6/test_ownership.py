"""Nobody reaches an order that is not theirs: every operation, every kind of caller, both doors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from month6_capstone.seeding import demo_user_id
from month6_capstone.stack import Shop
from month6_capstone.topology import TOKEN_AUDIENCE, TOKEN_ISSUER, demo_emails
from scalelab.ids import routed_uuid7, slot_of
from scalelab.security import SigningKey
from tests.e2e.customer import Customer
from tests.security.core.token_forge import Forge

OPERATIONS = (
    "POST /api/v1/orders",
    "GET /api/v1/orders",
    "GET /api/v1/orders/{order_id}",
    "GET /api/v1/orders/{order_id}/events",
)
OF_ONE_ORDER = OPERATIONS[2:]
OWNER = 1


@dataclass(frozen=True, slots=True)
class Street:
    """An order, its owner, and everybody else. callers: the headers they come with."""

    shop: Shop
    order_id: str
    key: str
    callers: Mapping[str, Mapping[str, str]]


@pytest.fixture(scope="module")
def street(shop: Shop) -> Street:
    """One confirmed order and the callers that may ask for it."""
    owner, key = Customer.signed_in(shop, OWNER), f"owned-{uuid4()}"
    placed = owner.place(key=key)
    assert placed.status_code == 202, placed.text
    owner.wait_for(placed.json()["order_id"], "confirmed")
    [key_file] = (shop.addresses.secrets / "signing-keys").glob("*.pem")
    forge = Forge(
        now_s=int(time.time()),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        key=SigningKey.load(key_file),
    )
    owner_id = demo_user_id(demo_emails(OWNER + 1)[OWNER])

    def bearer(**claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {forge.signed(claims=forge.claims(**claims))}"}

    return Street(
        shop,
        placed.json()["order_id"],
        key,
        {
            "owner": owner.headers,
            "nobody": {},
            "stranger": Customer.signed_in(shop, 2).headers,
            "stranger of the same shard": Customer.signed_in(shop, 4).headers,
            "service": bearer(sub="orders", client_id="orders", scope="internal"),
            "service named as the owner": bearer(sub=owner_id, scope="internal"),
            "owner of yesterday": bearer(sub=owner_id, exp=int(time.time()) - 3600),
            "almost the owner": bearer(sub=owner_id.upper()),
        },
    )


def ask(street: Street, door: str, operation: str, caller: str, order_id: str) -> httpx.Response:
    """Call the operation at the gateway or at the service itself."""
    method, path = operation.split()
    base = street.shop.url if door == "gateway" else street.shop.addresses.url("orders")
    headers = dict(street.callers[caller])
    body: dict[str, Any] | None = None
    if method == "POST":
        headers["Idempotency-Key"] = street.key
        body = {
            "lines": [{"product_id": "p-0001", "quantity": 3}],
            "card_token": "tok_4000000000000002",
        }
    url = base + path.replace("{order_id}", order_id)
    return httpx.request(method, url, json=body, headers=headers, timeout=20)


REFUSED = {
    "nobody": (401, {"token_missing"}),
    "service": (403, {"scope_missing", "insufficient_scope"}),
    "service named as the owner": (403, {"scope_missing", "insufficient_scope"}),
    "owner of yesterday": (401, {"token_expired"}),
}
STRANGERS = ("stranger", "stranger of the same shard", "almost the owner")


def test_the_matrix_has_every_operation(shop: Shop) -> None:
    """A new operation of orders makes this red until it is in the matrix."""
    paths = httpx.get(f"{shop.addresses.url('orders')}/openapi.json").json()["paths"]
    assert {f"{verb.upper()} {path}" for path in paths for verb in paths[path]} == set(OPERATIONS)


@pytest.mark.parametrize("door", ["gateway", "service"])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("caller", REFUSED)
def test_who_is_no_customer_is_refused(
    street: Street, door: str, operation: str, caller: str
) -> None:
    """No token, a service's or an expired one: 401 or 403 before anything is looked up."""
    answer = ask(street, door, operation, caller, street.order_id)
    status, codes = REFUSED[caller]
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] in codes
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("door", ["gateway", "service"])
@pytest.mark.parametrize("operation", OF_ONE_ORDER)
@pytest.mark.parametrize("caller", STRANGERS)
def test_an_order_of_somebody_else_is_as_one_that_does_not_exist(
    street: Street, door: str, operation: str, caller: str
) -> None:
    """404, and the document differs from that of a made-up order in its path and id only."""
    theirs = ask(street, door, operation, caller, street.order_id)
    made_up = str(routed_uuid7(slot_of(UUID(street.order_id)), datetime.now(UTC)))
    nothing = ask(street, door, operation, caller, made_up)
    assert theirs.status_code == nothing.status_code == 404
    assert told(theirs) == told(nothing)
    assert theirs.json()["code"] == "unknown_order"


def told(answer: httpx.Response) -> dict[str, Any]:
    """What an answer says, without what names the request itself."""
    document: dict[str, Any] = answer.json()
    return {
        name: value for name, value in document.items() if name not in ("instance", "request_id")
    }


@pytest.mark.parametrize("door", ["gateway", "service"])
@pytest.mark.parametrize("caller", STRANGERS)
def test_a_strangers_list_leaves_it_out(street: Street, door: str, caller: str) -> None:
    """The list of a caller holds the caller's orders, whatever cursor comes along."""
    order = UUID(street.order_id)
    for query in ("", f"?cursor={street.order_id}", f"?cursor={UUID(int=order.int + 1)}&limit=100"):
        answer = ask(street, door, f"GET /api/v1/orders{query}", caller, "")
        assert answer.status_code == 200, answer.text
        assert street.order_id not in answer.text.replace(query, "")


@pytest.mark.parametrize("door", ["gateway", "service"])
def test_a_strangers_use_of_a_key_shows_nothing_of_its_first_use(street: Street, door: str) -> None:
    """Keys belong to their user: the stranger's request is a new one, not a reused key."""
    answer = ask(street, door, "POST /api/v1/orders", "stranger", "")
    assert answer.status_code == 202, answer.text
    assert answer.json()["order_id"] != street.order_id


@pytest.mark.parametrize("door", ["gateway", "service"])
@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_the_owner_gets_through(street: Street, door: str, operation: str) -> None:
    """The control: with the owner's token the same requests show the order."""
    answer = ask(street, door, operation, "owner", street.order_id)
    assert answer.status_code == 200, answer.text
    assert street.order_id in answer.text
