"""Order status by asking: at once, or held back until there is something to say."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.integration.month3.messaging_bed import DEADLINE_S, poll_until
from tests.integration.month3.orders_bed import Shop
from tests.integration.month3.status.moves import captured, placed, reserved


async def ask(shop: Shop, order_id: str, after: int, wait_s: float = 0.0) -> dict[str, Any]:
    path = f"/api/v1/orders/{order_id}/status"
    status, body, _ = await shop.get("ann", path, after=str(after), wait_s=str(wait_s))
    assert status == 200, body
    return body


async def waiting(shop: Shop) -> None:
    async def one() -> bool:
        return shop.hub.watching == 1

    await poll_until(one, "a request waits")


async def test_polling_answers_at_once_with_what_is_new(shop: Shop) -> None:
    """Every version after the one named, none twice, and the end."""
    order_id = await placed(shop)
    first = await ask(shop, order_id, 0)
    assert ([one["status"] for one in first["changes"]], first["last"]) == (["pending"], 1)
    assert (await ask(shop, order_id, 1))["changes"] == []
    await captured(shop, order_id)
    await reserved(shop, order_id)
    rest = await ask(shop, order_id, 1)
    assert [one["version"] for one in rest["changes"]] == [2, 3, 4]
    assert (rest["last"], rest["ended"]) == (4, True)


async def test_a_long_poll_is_answered_when_something_happens(shop: Shop) -> None:
    """Held back until then, and no longer."""
    order_id = await placed(shop)
    asked = asyncio.create_task(ask(shop, order_id, 1, wait_s=30.0))
    await waiting(shop)
    assert not asked.done()
    await captured(shop, order_id)
    assert [one["version"] for one in (await asked)["changes"]] == [2]


async def test_a_long_poll_of_an_ended_order_does_not_wait(shop: Shop) -> None:
    """Nothing can follow, and it says so."""
    order_id = await placed(shop)
    await captured(shop, order_id)
    await reserved(shop, order_id)
    async with asyncio.timeout(DEADLINE_S / 3):
        assert (await ask(shop, order_id, 4, wait_s=30.0))["ended"]


async def test_a_long_poll_in_which_nothing_happens_says_so(shop: Shop) -> None:
    """An empty answer; ask again with the same version."""
    order_id = await placed(shop)
    answer = await ask(shop, order_id, 1, wait_s=0.05)
    assert (answer["changes"], answer["last"], answer["ended"]) == ([], 1, False)


async def test_a_caller_that_goes_is_not_waited_for(shop: Shop) -> None:
    """Its place among the user's streams is given back long before the wait is over."""
    order_id = await placed(shop)
    asked = asyncio.create_task(ask(shop, order_id, 1, wait_s=30.0))
    await waiting(shop)
    asked.cancel()

    async def none() -> bool:
        return shop.hub.watching == 0

    async with asyncio.timeout(DEADLINE_S / 3):
        await poll_until(none, "the request is forgotten")


async def test_waiting_requests_are_bounded_per_user(shop: Shop) -> None:
    """They are streams like the others."""
    order_id = await placed(shop)
    asked = [asyncio.create_task(ask(shop, order_id, 1, wait_s=30.0)) for _ in range(3)]

    async def all_wait() -> bool:
        return shop.hub.watching == 3

    await poll_until(all_wait, "three requests wait")
    status, body, _ = await shop.get(
        "ann", f"/api/v1/orders/{order_id}/status", after="1", wait_s="30"
    )
    assert (status, body["code"]) == (429, "too_many_streams")
    await captured(shop, order_id)
    assert [(await one)["last"] for one in asked] == [2, 2, 2]


async def test_another_users_order_is_unknown(shop: Shop) -> None:
    """Like one that does not exist."""
    order_id = await placed(shop, user="bob")
    status, body, _ = await shop.get("ann", f"/api/v1/orders/{order_id}/status")
    assert (status, body["code"]) == (404, "unknown_order")
