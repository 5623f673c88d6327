"""The orders API over real HTTP, on a real database."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.integration.month3.orders_bed import Shop, order_body


async def test_an_order_is_accepted_with_its_event_in_one_transaction(shop: Shop) -> None:
    """202, Location, token; order, history, saga, outbox and key are there together."""
    status, body, headers = await shop.place("ann", "key-1")
    assert status == 202
    assert body["status"] == "pending"
    assert (body["total_minor"], body["currency"]) == (2 * 1250 + 399, "EUR")
    assert headers["location"] == f"/api/v1/orders/{body['order_id']}"
    assert headers["x-consistency-token"]
    for table in ("orders", "order_history", "saga", "outbox", "idempotency_key"):
        assert await shop.rows(f"SELECT count(*) FROM {table}") == [(1,)], table
    [(kind, key, value)] = await shop.rows("SELECT type, key, value FROM outbox")
    assert kind == "orders.order.placed.v1"
    assert key == body["order_id"]
    assert set(value) == {
        "order_id",
        "user_id",
        "hold_id",
        "lines",
        "total_minor",
        "currency",
        "card_token",
        "placed_at",
    }
    [hold] = shop.peers.holds.values()
    assert (hold.user_id, hold.ttl_s) == ("ann", 120.0)


async def test_a_repeated_key_is_answered_alike_without_asking_anybody(shop: Shop) -> None:
    """Same status, body and Location; one order; prices may have changed meanwhile."""
    first = await shop.place("ann", "key-1")
    shop.peers.prices["p-0001"] = 9999
    shop.peers.asked.clear()
    second = await shop.place("ann", "key-1")
    assert second[:2] == first[:2]
    assert second[2]["location"] == first[2]["location"]
    assert second[2]["idempotency-replayed"] == "true"
    assert not shop.peers.asked
    assert await shop.rows("SELECT count(*) FROM orders") == [(1,)]


async def test_racing_copies_of_one_request_make_one_order(shop: Shop) -> None:
    """32 at once: 202 with one and the same order, or 409 in flight; never two orders."""
    answers = await asyncio.gather(*(shop.place("ann", "key-1") for _ in range(32)))
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) <= {202, 409}
    assert statuses[202] >= 1
    assert len({body["order_id"] for status, body, _ in answers if status == 202}) == 1
    assert {body["code"] for status, body, _ in answers if status == 409} <= {
        "idempotency_in_flight"
    }
    assert await shop.rows("SELECT count(*) FROM orders") == [(1,)]
    assert await shop.rows("SELECT count(*) FROM outbox") == [(1,)]
    assert len(shop.peers.holds) == 1, "all copies ask for the same hold"


async def test_a_key_belongs_to_its_user_and_its_body(shop: Shop) -> None:
    """Another user's key is another key; the same key with another body is refused."""
    _, mine, _ = await shop.place("ann", "key-1")
    _, theirs, _ = await shop.place("bob", "key-1")
    assert mine["order_id"] != theirs["order_id"]
    status, body, _ = await shop.place("ann", "key-1", order_body(quantity=3))
    assert (status, body["code"]) == (422, "idempotency_key_reused")
    assert await shop.rows("SELECT count(*) FROM orders") == [(2,)]


@pytest.mark.parametrize(
    "body",
    [
        {**order_body(), "total_minor": 1},
        {
            "lines": [{"product_id": "p-0001", "quantity": 1, "unit_minor": 1}],
            "card_token": "tok_1",
        },
        {"lines": [], "card_token": "tok_1"},
        {"lines": [{"product_id": "p-0001", "quantity": 0}], "card_token": "tok_1"},
        {"lines": [{"product_id": "p-0001", "quantity": 101}], "card_token": "tok_1"},
        {"lines": [{"product_id": "p-0001", "quantity": "1"}], "card_token": "tok_1"},
        {"lines": [{"product_id": "p-0001", "quantity": True}], "card_token": "tok_1"},
        {"lines": [{"product_id": "P 1", "quantity": 1}], "card_token": "tok_1"},
        {"lines": [{"product_id": "p-0001", "quantity": 1}] * 2, "card_token": "tok_1"},
        {"lines": [{"product_id": "p-0001", "quantity": 1}], "card_token": "4242424242424242"},
        {"lines": [{"product_id": "p-0001", "quantity": 1}]},
        [],
    ],
)
async def test_a_body_that_breaks_the_schema_changes_nothing(shop: Shop, body: object) -> None:
    """A price among the members, no lines, odd quantities, a product twice: 422."""
    async with shop.http.post(
        f"{shop.url}/api/v1/orders",
        json=body,
        headers=shop.headers("ann", **{"Idempotency-Key": "key-1"}),
    ) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (422, "invalid_input")
    assert not shop.peers.asked
    assert await shop.rows("SELECT count(*) FROM orders") == [(0,)]


async def test_a_key_is_demanded(shop: Shop) -> None:
    """400 without Idempotency-Key."""
    async with shop.http.post(
        f"{shop.url}/api/v1/orders", json=order_body(), headers=shop.headers("ann")
    ) as answer:
        problem = await answer.json(content_type=None)
        assert (answer.status, problem["code"]) == (400, "idempotency_key_missing")


async def test_refusals_of_the_peers_reach_the_customer_and_change_nothing(shop: Shop) -> None:
    """Unknown product 422, out of stock 409; the same key works once the reason is gone."""
    unknown = {"lines": [{"product_id": "p-9", "quantity": 1}], "card_token": "tok_1"}
    status, body, _ = await shop.place("ann", "key-1", unknown)
    assert (status, body["code"]) == (422, "unknown_product")
    shop.peers.out_of_stock = True
    status, body, _ = await shop.place("ann", "key-2")
    assert (status, body["code"]) == (409, "out_of_stock")
    for table in ("orders", "outbox", "saga", "idempotency_key"):
        assert await shop.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    shop.peers.out_of_stock = False
    status, _, _ = await shop.place("ann", "key-2")
    assert status == 202


@pytest.mark.parametrize("peer", ["catalog", "inventory"])
async def test_without_a_peer_nothing_is_placed(shop: Shop, peer: str) -> None:
    """503 with Retry-After; the same key places the order when the peer is back."""
    setattr(shop.peers, f"{peer}_is_down", True)
    status, body, headers = await shop.place("ann", "key-1")
    assert (status, body["code"]) == (503, f"{peer}_unavailable")
    assert int(headers["retry-after"]) >= 1
    assert await shop.rows("SELECT count(*) FROM orders") == [(0,)]
    setattr(shop.peers, f"{peer}_is_down", False)
    status, _, _ = await shop.place("ann", "key-1")
    assert status == 202


async def test_an_order_is_shown_to_its_owner_only(shop: Shop) -> None:
    """Another user's order, an unknown one and an id without a slot are all 404."""
    _, body, _ = await shop.place("ann", "key-1")
    path = f"/api/v1/orders/{body['order_id']}"
    status, order, headers = await shop.get("ann", path)
    assert status == 200
    assert order["version"] == 1
    assert order["lines"][0] == {"product_id": "p-0001", "quantity": 2, "unit_minor": 1250}
    assert (headers["x-shard"], headers["x-db-role"]) == ("shard-x", "primary")
    for user, where in (
        ("bob", path),
        ("ann", "/api/v1/orders/01890a5d-ac96-774b-bcce-b302099a8057"),
        ("ann", "/api/v1/orders/00000000-0000-4000-8000-000000000000"),
        ("bob", f"{path}/events"),
    ):
        status, problem, _ = await shop.get(user, where)
        assert (status, problem["code"]) == (404, "unknown_order"), where


async def test_pages_hold_every_order_once_newest_first(shop: Shop) -> None:
    """Cursor pagination; other users' orders are not in it."""
    placed = [(await shop.place("ann", f"key-{n}"))[1]["order_id"] for n in range(5)]
    await shop.place("bob", "key-1")
    listed: list[str] = []
    params = {"limit": "2"}
    while True:
        status, page, _ = await shop.get("ann", "/api/v1/orders", **params)
        assert status == 200
        listed.extend(order["order_id"] for order in page["orders"])
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert sorted(listed) == sorted(placed)
    assert listed == sorted(listed, reverse=True)
    status, problem, _ = await shop.get("ann", "/api/v1/orders", cursor="nonsense")
    assert (status, problem["code"]) == (422, "invalid_input")
