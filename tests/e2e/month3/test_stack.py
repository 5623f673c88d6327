"""The month's stack as a person starts it: every order ends, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import pytest

from month3_messaging.orderload import Placed, follow, place_orders
from month3_messaging.partners import DECLINED_CARD
from month3_messaging.stack import Stack, key_path
from month3_messaging.topology import TOKEN_AUDIENCE, TOKEN_ISSUER
from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock
from scalelab.errors import Forbidden, InvalidInput, Unauthenticated
from scalelab.issuer import demo_token
from tests.e2e.month3.conftest import PRODUCTS
from tests.e2e.month3.watching import watched
from tests.fixtures.tiers import Count

pytestmark = pytest.mark.timeout(400)

WITHIN_S = 150.0


@pytest.fixture
async def http(stack: Stack) -> AsyncIterator[HttpClient]:
    """A caller of the orders' door."""
    async with HttpClient(stack.addresses.url("orders"), timeout_s=30.0) as opened:
        yield opened


def token_of(stack: Stack, subject: str, scope: str = "shop") -> str:
    """A token that the stack's services believe."""
    return demo_token(
        key_path(stack.runtime.root),
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=[scope],
        ttl_s=3600.0,
        clock=SystemClock(),
    )


async def books(stack: Stack) -> dict[str, int]:
    """What the partners kept."""
    async with HttpClient(stack.addresses.url("partners"), timeout_s=30.0) as http:
        return (await http.get("/internal/v1/books")).json()


async def carry_out(
    stack: Stack, http: HttpClient, subject: str, number: int, *, kill: tuple[str, ...] = ()
) -> tuple[Placed, dict[str, int]]:
    """Place orders, kill processes once a third has been placed, follow all to their ends.

    Returns the orders and how much the books grew by them.
    """
    before = await books(stack)
    seen, third = 0, asyncio.Event()

    def told() -> None:
        nonlocal seen
        seen += 1
        if seen * 3 >= number:
            third.set()

    async def killing() -> None:
        await third.wait()
        for name in kill:
            await asyncio.to_thread(stack.runtime.kill, name)

    bearer = token_of(stack, subject)
    async with asyncio.TaskGroup() as group:
        group.create_task(killing())
        placing = group.create_task(
            place_orders(http, bearer, number, products=PRODUCTS, random=Random(1), told=told)
        )
    placed = placing.result()
    await follow(http, bearer, placed, within_s=WITHIN_S)
    after = await books(stack)
    return placed, {name: after[name] - before[name] for name in after}


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
    """Every version of it comes once, ascending, and the end is said."""
    bearer = token_of(stack, "watching")
    placed = await place_orders(http, bearer, 1, products=PRODUCTS, random=Random(2))
    (order_id,) = placed.accepted
    address = f"127.0.0.1:{stack.addresses.ports['orders-live']}"
    seen = await watched(address, bearer, order_id, within_s=WITHIN_S)
    assert [version for version, _ in seen] == list(range(1, len(seen) + 1))
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
