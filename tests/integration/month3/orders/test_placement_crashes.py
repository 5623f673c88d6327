"""Placement dies around its commit; the customer repeats the request with the same key."""

from __future__ import annotations

import pytest

from month3_messaging.orders import PlaceOrder
from scalelab.clients.http import HttpClient
from tests.integration.month3.orders_bed import Shop, order_body, placement_on, served


class Crashed(Exception):
    """A crash at a named point, as far as this process can play it."""


@pytest.mark.parametrize("point", ["placement.before_commit", "placement.after_commit"])
async def test_a_crash_around_the_commit_and_a_repeat_make_one_order(
    shop: Shop, point: str
) -> None:
    """Before the commit: nothing is there, the repeat places. After it: the repeat replays."""

    def crash(at: str) -> None:
        if at == point:
            raise Crashed

    wanted = PlaceOrder.model_validate(order_body())
    async with served(shop.peers.app()) as url, HttpClient(url) as catalog:
        with pytest.raises(Crashed):
            await placement_on(shop.sessions, catalog, reached=crash).place("ann", "key", wanted)
    committed = point == "placement.after_commit"
    for table in ("orders", "outbox", "saga", "idempotency_key", "order_history"):
        assert await shop.rows(f"SELECT count(*) FROM {table}") == [(int(committed),)], table
    status, body, headers = await shop.place("ann", "key")
    assert status == 202
    assert ("idempotency-replayed" in headers) is committed
    assert await shop.rows("SELECT order_id::text FROM orders") == [(body["order_id"],)]
    assert await shop.rows("SELECT count(*) FROM outbox") == [(1,)]
