"""The month's stack as a person starts it: every order ends, whatever is killed meanwhile."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from month3_messaging.orderload import place_orders
from month3_messaging.partners import DECLINED_CARD
from month3_messaging.stack import Stack
from scalelab.clients.http import HttpClient
from scalelab.errors import Forbidden, InvalidInput, Unauthenticated
from tests.e2e.month3.conftest import PRODUCTS
from tests.e2e.month3.crowd import WITHIN_S, carry_out, token_of
from tests.e2e.month3.watching import watched
from tests.fixtures.tiers import Count

pytestmark = pytest.mark.timeout(400)


async def test_every_order_ends_and_the_books_balance(
    stack: Stack, http: HttpClient, count: Count
) -> None:
    """Confirmed orders are paid for, declined ones cost nothing, stock is taken for each once."""
    number = count(2000, share=0.02)
    placed, grown = await carry_out(stack, http, "plain", number)
    assert len(placed.accepted) == number, placed.refused
    assert not placed.still_open
    ends = Counter(placed.ends.values())
    assert set(ends) <= {"confirmed", "payment_failed"}
    assert grown["kept_minor"] == placed.confirmed_minor
    assert grown["taken"] == grown["promised"] == ends["confirmed"]


async def test_orders_survive_the_death_of_everything_behind_the_door(
    stack: Stack, http: HttpClient, count: Count
) -> None:
    """Worker and partners are killed with orders under way; each order still ends once."""
    number = count(2000, share=0.02)
    placed, grown = await carry_out(
        stack, http, "killed", number, kill=("orders-worker", "partners")
    )
    assert len(placed.accepted) == number, placed.refused
    assert not placed.still_open
    assert grown["kept_minor"] == placed.confirmed_minor
    assert grown["taken"] == grown["promised"]


async def test_an_order_is_watched_to_its_end_over_the_websocket(
    stack: Stack, http: HttpClient
) -> None:
    """Its versions ascend (of two within a tick only the later is told), and the end is said."""
    bearer = token_of(stack, "watching")
    placed = await place_orders(http, bearer, 1, products=PRODUCTS, random=Random(2))
    (order_id,) = placed.accepted
    address = f"127.0.0.1:{stack.addresses.ports['orders-live']}"
    seen = await watched(address, bearer, order_id, within_s=WITHIN_S)
    versions = [version for version, _ in seen]
    assert versions == sorted(set(versions))
    assert seen[-1][1] in {"confirmed", "payment_failed"}


async def test_nobody_without_a_token_places_an_order(stack: Stack, http: HttpClient) -> None:
    """None, a forged one, one without the scope; and a wrong body is told apart."""
    body = {"lines": [{"product_id": "p-0001", "quantity": 1}], "card_token": DECLINED_CARD}
    key = {"Idempotency-Key": "k"}
    with pytest.raises(Unauthenticated):
        await http.post("/api/v1/orders", body, headers=key)
    with pytest.raises(Unauthenticated):
        await http.post("/api/v1/orders", body, headers={**key, "Authorization": "Bearer x.y.z"})
    weak = {**key, "Authorization": f"Bearer {token_of(stack, 'weak', 'other')}"}
    with pytest.raises(Forbidden):
        await http.post("/api/v1/orders", body, headers=weak)
    right = {**key, "Authorization": f"Bearer {token_of(stack, 'right')}"}
    with pytest.raises(InvalidInput):
        await http.post("/api/v1/orders", {**body, "lines": []}, headers=right)
