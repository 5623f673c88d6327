"""Generated requests against what the services say about themselves, through the front door.

Every operation of identity, catalog and orders is called by a signed-in customer with input that
its OpenAPI description allows and with input that it forbids. Whatever comes: no 5xx, an answer
that the description names (or a refusal of the door itself), and problem documents for errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from month6_capstone.load import DECLINED_CARD, PAYING_CARD
from month6_capstone.stack import Shop
from tests.e2e.customer import Customer, settled_report
from tests.fixtures.tiers import Count

OPERATIONS: Mapping[str, Sequence[str]] = {
    "identity": (
        "POST /api/v1/auth/register",
        "POST /api/v1/auth/login",
        "GET /.well-known/jwks.json",
    ),
    "catalog": ("GET /api/v1/products", "GET /api/v1/products/{product_id}"),
    "orders": (
        "POST /api/v1/orders",
        "GET /api/v1/orders",
        "GET /api/v1/orders/{order_id}",
        "GET /api/v1/orders/{order_id}/events",
    ),
}
"""What the door lets through; everything else is in CLOSED."""

CLOSED = {
    "POST /oauth2/token",
    "PUT /api/v1/products/{product_id}",
    "PATCH /api/v1/products/{product_id}",
    "DELETE /api/v1/products/{product_id}",
    "GET /internal/v1/prices",
    "PUT /internal/v1/holds/{hold_id}",
    "DELETE /internal/v1/holds/{hold_id}",
    "PUT /internal/v1/stock/{product_id}",
    "GET /internal/v1/stock/{product_id}",
    "GET /internal/v1/payments/{order_id}",
    "POST /v1/charges",
    "GET /v1/charges",
    "POST /v1/refunds",
}
"""What the services have and the outside must not reach."""

NOT_ALL_VALID_IS_TAKEN = {
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/login",
    "GET /api/v1/products",
    "GET /api/v1/orders",
    "POST /api/v1/orders",
    "GET /api/v1/orders/{order_id}/events",
}
"""Operations with an argument whose good values no schema can name: a cursor, a password, a product
that exists, the id of an event."""

DOORS_OWN = {
    400: {
        "bad_request",
        "invalid_target",
        "idempotency_key_missing",
        "idempotency_key_invalid",
    },
    401: {"token_missing", "token_malformed"},
    404: {"unknown_route"},
    405: {"method_not_allowed"},
    414: {"target_too_long"},
    429: {"rate_limited"},
    431: {"header_too_large", "too_many_headers"},
}
"""Refusals that the door makes before a service is asked, which no service describes."""

LOGINS_MAX = 30
"""More wrong logins from one address would be throttled, and so would those of other tests."""

FOR_SALE = [f"p-{number:04d}" for number in range(10, 36)]

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

pytestmark = pytest.mark.timeout(3600)


@dataclass(frozen=True, slots=True)
class Town:
    """The shop, its descriptions by process, customers who take turns, and ids that exist."""

    shop: Shop
    documents: Mapping[str, Any]
    customers: Iterator[Customer]
    known: Mapping[str, Sequence[str]]


@pytest.fixture(scope="module")
def town(shop: Shop) -> Iterator[Town]:
    """Orders of two customers, one of whom asks; afterwards the books must balance."""
    mine, theirs = Customer.signed_in(shop, 5), Customer.signed_in(shop, 6)
    orders: list[str] = []
    for customer in (mine, theirs):
        placed = customer.place()
        assert placed.status_code == 202, placed.text
        customer.wait_for(placed.json()["order_id"], "confirmed")
        orders.append(placed.json()["order_id"])
    documents = {
        name: httpx.get(f"{shop.addresses.url(name)}/openapi.json").raise_for_status().json()
        for name in (*OPERATIONS, "inventory", "payments", "provider")
    }
    yield Town(
        shop,
        documents,
        cycle([mine, *(Customer.signed_in(shop, number) for number in (3, 4, 7))]),
        {"order_id": orders, "product_id": ["p-0001", "p-0040", "p-9999"]},
    )
    report = settled_report(shop)
    assert report.balanced, report.violations


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        pytest.param(label, mode, id=f"{label}-{mode.value}")
        for labels in OPERATIONS.values()
        for label in labels
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if (label, mode) != ("GET /.well-known/jwks.json", GenerationMode.NEGATIVE)
    ],
)
def test_any_request_gets_a_described_answer(
    town: Town, count: Count, label: str, mode: GenerationMode
) -> None:
    """For each operation, with allowed input and, where it takes any, with forbidden input."""
    method, path = label.split()
    [service] = [name for name, labels in OPERATIONS.items() if label in labels]
    operation = schemathesis.openapi.from_dict(town.documents[service])[path][method]
    examples = count(2000, share=0.01)

    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    @settings(
        max_examples=min(examples, LOGINS_MAX) if path.endswith("/login") else examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=SLOW,
    )
    def ask(case: schemathesis.Case, data: st.DataObject) -> None:
        is_valid = mode is GenerationMode.POSITIVE
        # Arguments that nobody asked for are ignored, as HTTP services do; that is no finding.
        assume(set(case.query) <= {parameter.name for parameter in operation.query})
        if is_valid:
            make_real(case, town, data)
        answer = case.call(base_url=town.shop.url, headers=next(town.customers).headers, timeout=30)
        if is_refusal_of_the_door(answer):
            assert not is_valid or answer.status_code == 429, answer.text
            return
        excluded = [positive_data_acceptance] if label in NOT_ALL_VALID_IS_TAKEN else []
        case.validate_response(answer, excluded_checks=excluded)

    ask()


def make_real(case: schemathesis.Case, town: Town, data: st.DataObject) -> None:
    """Put ids that exist in the place of generated ones, most of the time; an order is new."""
    for name in case.path_parameters:
        if name in town.known and data.draw(st.integers(0, 3)):
            case.path_parameters[name] = data.draw(st.sampled_from(town.known[name]))
    if case.method == "POST" and case.path == "/api/v1/orders" and data.draw(st.integers(0, 3)):
        lines = data.draw(st.lists(st.sampled_from(FOR_SALE), min_size=1, max_size=9, unique=True))
        case.body = {
            "lines": [{"product_id": one, "quantity": 1} for one in lines],
            "card_token": data.draw(st.sampled_from([PAYING_CARD, DECLINED_CARD])),
        }
        case.headers["Idempotency-Key"] = f"fuzz-{uuid4()}"


def is_refusal_of_the_door(answer: Any) -> bool:
    """Whether the front door answered by itself; then its document is checked here."""
    if answer.status_code not in DOORS_OWN:
        return False
    assert answer.headers["content-type"] == ["application/problem+json"], answer.headers
    document = json.loads(answer.content)
    assert document["status"] == answer.status_code
    return document["code"] in DOORS_OWN[answer.status_code]


def owners(documents: Mapping[str, Any]) -> dict[str, str]:
    """Every operation of every process, by label, with the process that has it."""
    return {
        f"{verb.upper()} {path}": service
        for service, document in documents.items()
        for path, verbs in document["paths"].items()
        for verb in verbs
    }


def test_every_operation_is_either_fuzzed_or_closed(town: Town) -> None:
    """A new operation makes this red until somebody decides which it is."""
    assert owners(town.documents).keys() == CLOSED.union(*OPERATIONS.values())


@pytest.mark.parametrize("label", sorted(CLOSED))
def test_what_is_for_services_is_closed_to_customers(town: Town, label: str) -> None:
    """Through the door it does not exist, whoever asks; at the service, a customer's token is not
    enough. (The payment provider, which is not ours, knows no tokens.)"""
    method, path = label.split()
    for name in ("hold_id", "order_id"):
        path = path.replace(f"{{{name}}}", str(uuid4()))
    path = path.replace("{product_id}", "p-0001")
    document = {"initial": 1, "grant_type": "client_credentials"}
    customer = next(town.customers).headers
    with httpx.Client(timeout=20) as client:
        for headers in (customer, internal(town.shop), {}):
            answer = client.request(method, town.shop.url + path, json=document, headers=headers)
            assert answer.status_code in (404, 405)
            assert answer.json()["code"] in ("unknown_route", "method_not_allowed")
        service = owners(town.documents)[label]
        if service in ("provider", "identity"):
            return
        url = town.shop.addresses.url(service) + path
        for headers, status in ((customer, 403), ({}, 401)):
            answer = client.request(method, url, json=document, headers=headers)
            assert answer.status_code == status, answer.text


def internal(shop: Shop) -> dict[str, str]:
    """The headers of one of the shop's own services."""
    secret = (shop.addresses.secrets / "client-operator").read_text().strip()
    answer = httpx.post(
        f"{shop.addresses.url('identity')}/oauth2/token",
        data={"grant_type": "client_credentials", "scope": "internal"},
        auth=("operator", secret),
    )
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}
