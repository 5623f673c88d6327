"""What events do to orders, on a real database: once, together, and to an end."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from month3_messaging.broker import Event
from month3_messaging.orders import SagaEffects, order_saga
from scalelab.clock import SystemClock
from scalelab.errors import CorruptData, InvalidInput, NotFound
from tests.integration.month3.orders_bed import Shop, age, order_body

TOTAL = 2 * 1250 + 399


def effects_of(shop: Shop, **hooks: object) -> SagaEffects:
    return SagaEffects(order_saga(600.0), shop.sessions, SystemClock(), **hooks)  # pyright: ignore[reportArgumentType]


def told(order_id: str, kind: str, **data: object) -> Event:
    now = datetime.now(UTC)
    return Event(uuid4(), kind, "/test", order_id, now, {"order_id": order_id, **data})


def captured(order_id: str, amount: int = TOTAL) -> Event:
    return told(order_id, "payments.payment.captured.v1", amount_minor=amount, currency="EUR")


def refunded(order_id: str) -> Event:
    return told(order_id, "payments.payment.refunded.v1", amount_minor=TOTAL, currency="EUR")


def failed(order_id: str) -> Event:
    return told(order_id, "payments.payment.failed.v1", reason="card_declined")


def reserved(order_id: str) -> Event:
    return told(order_id, "inventory.stock.reserved.v1", hold_id=str(uuid4()))


def rejected(order_id: str) -> Event:
    return told(order_id, "inventory.stock.rejected.v1", reason="out_of_stock")


async def placed(shop: Shop, key: str = "key-1") -> str:
    status, body, _ = await shop.place("ann", key, order_body())
    assert status == 202
    return body["order_id"]


async def history(shop: Shop, order_id: str) -> list[str]:
    rows = await shop.rows(
        f"SELECT status FROM order_history WHERE order_id = '{order_id}' ORDER BY version"
    )
    return [status for (status,) in rows]


async def published(shop: Shop, order_id: str) -> list[str]:
    rows = await shop.rows(f"SELECT type FROM outbox WHERE key = '{order_id}' ORDER BY id")
    return [kind.removeprefix("orders.order.").removesuffix(".v1") for (kind,) in rows]


async def has_ended(shop: Shop, order_id: str) -> bool:
    rows = await shop.rows(f"SELECT ended_at IS NOT NULL FROM saga WHERE order_id = '{order_id}'")
    return rows[0][0]


async def test_a_paid_and_reserved_order_is_confirmed(shop: Shop) -> None:
    """History, events and the end, in order; `paid` tells inventory what it needs."""
    order_id = await placed(shop)
    effects = effects_of(shop)
    await effects.on_event(captured(order_id))
    assert not await has_ended(shop, order_id)
    await effects.on_event(reserved(order_id))
    assert await history(shop, order_id) == ["pending", "paid", "stock_reserved", "confirmed"]
    assert await published(shop, order_id) == ["placed", "paid", "confirmed"]
    assert await has_ended(shop, order_id)
    [(paid,)] = await shop.rows("SELECT value FROM outbox WHERE type = 'orders.order.paid.v1'")
    assert paid["user_id"] == "ann"
    assert paid["lines"][0] == {"product_id": "p-0001", "quantity": 2}
    status, order, _ = await shop.get("ann", f"/api/v1/orders/{order_id}")
    assert (status, order["status"], order["version"]) == (200, "confirmed", 4)


async def test_a_declined_card_ends_the_order(shop: Shop) -> None:
    """payment_failed, with the reason and the hold to release."""
    order_id = await placed(shop)
    await effects_of(shop).on_event(failed(order_id))
    assert await history(shop, order_id) == ["pending", "payment_failed"]
    [(value,)] = await shop.rows(
        "SELECT value FROM outbox WHERE type = 'orders.order.payment_failed.v1'"
    )
    assert value["reason"] == "card_declined"
    assert UUID(value["hold_id"])
    assert await has_ended(shop, order_id)


async def test_rejected_stock_is_cancelled_and_refunded(shop: Shop) -> None:
    """The compensation runs to its end."""
    order_id = await placed(shop)
    effects = effects_of(shop)
    for event in (captured(order_id), rejected(order_id), refunded(order_id)):
        await effects.on_event(event)
    assert await published(shop, order_id) == ["placed", "paid", "cancelled", "refunded"]
    assert await has_ended(shop, order_id)


async def test_any_order_of_delivery_with_duplicates_ends_alike(shop: Shop) -> None:
    """All permutations of two worlds, each event delivered up to three times, some at once."""
    effects = effects_of(shop)
    worlds = ((captured, reserved), (captured, rejected, refunded))
    rng = random.Random(11)
    orders = itertools.count()
    for world in worlds:
        for permutation in itertools.permutations(world):
            order_id = await placed(shop, f"key-{next(orders)}")
            events = [make(order_id) for make in permutation]
            delivery = [event for event in events for _ in range(rng.randint(1, 2))]
            for event in delivery:
                await effects.on_event(event)
            await asyncio.gather(*(effects.on_event(event) for event in events))
            last = (await history(shop, order_id))[-1]
            assert last == ("confirmed" if reserved in world else "refunded"), permutation
            assert await has_ended(shop, order_id)
            said = await published(shop, order_id)
            assert len(set(said)) == len(said), permutation


async def test_facts_at_the_same_moment_are_applied_one_at_a_time(shop: Shop) -> None:
    """Captured and reserved in parallel, 20 orders: versions without gaps, all confirmed."""
    effects = effects_of(shop)
    orders = [await placed(shop, f"key-{n}") for n in range(20)]
    events = [make(order_id) for order_id in orders for make in (captured, reserved)]
    await asyncio.gather(*(effects.on_event(event) for event in events))
    for order_id in orders:
        assert await history(shop, order_id) == ["pending", "paid", "stock_reserved", "confirmed"]


class Crashed(Exception):
    """A crash at a named point, as far as this process can play it."""


@pytest.mark.parametrize("point", ["saga.before_commit", "saga.after_commit"])
async def test_a_crash_around_the_commit_and_a_redelivery_have_one_effect(
    shop: Shop, point: str
) -> None:
    """Before the commit nothing is left; after it the redelivery is recognised."""
    order_id = await placed(shop)

    def crash(at: str) -> None:
        if at == point:
            raise Crashed

    event = captured(order_id)
    with pytest.raises(Crashed):
        await effects_of(shop, reached=crash).on_event(event)
    committed = point == "saga.after_commit"
    assert await shop.rows("SELECT count(*) FROM inbox") == [(int(committed),)]
    assert len(await history(shop, order_id)) == 1 + committed
    await effects_of(shop).on_event(event)
    assert await history(shop, order_id) == ["pending", "paid"]
    assert await published(shop, order_id) == ["placed", "paid"]


async def test_a_payment_that_never_comes_is_cancelled_at_the_deadline(shop: Shop) -> None:
    """The sweeper asks payments to give back; its word that nothing was captured ends it."""
    order_id = await placed(shop)
    effects = effects_of(shop)
    assert await effects.sweep(shop.database.transaction) == 0
    async with shop.database.autocommit() as conn:
        await age(conn, timedelta(seconds=601))
    counts = await asyncio.gather(*(effects.sweep(shop.database.transaction) for _ in range(3)))
    assert max(counts) == 1
    assert await published(shop, order_id) == ["placed", "cancelled"]
    assert not await has_ended(shop, order_id)
    await effects.on_event(told(order_id, "payments.payment.failed.v1", reason="not_captured"))
    assert await has_ended(shop, order_id)
    assert await history(shop, order_id) == ["pending", "cancelled"]


async def test_a_capture_after_the_deadline_is_refunded(shop: Shop) -> None:
    """Late replies: the capture confirms nothing, the refund ends the order."""
    order_id = await placed(shop)
    effects = effects_of(shop)
    async with shop.database.autocommit() as conn:
        await age(conn, timedelta(seconds=601))
    await effects.sweep(shop.database.transaction)
    for event in (captured(order_id), refunded(order_id), reserved(order_id)):
        await effects.on_event(event)
    assert await history(shop, order_id) == ["pending", "cancelled", "refunded"]
    assert await has_ended(shop, order_id)


async def test_a_paid_order_has_no_deadline(shop: Shop) -> None:
    """Past the pivot the saga only waits."""
    order_id = await placed(shop)
    effects = effects_of(shop)
    await effects.on_event(captured(order_id))
    async with shop.database.autocommit() as conn:
        await age(conn, timedelta(days=1))
    assert await effects.sweep(shop.database.transaction) == 0
    assert await history(shop, order_id) == ["pending", "paid"]


async def test_events_that_cannot_be_meant_change_nothing(shop: Shop) -> None:
    """A wrong amount, a missing or foreign order id, an unknown order: errors of their kind."""
    order_id = await placed(shop)
    effects = effects_of(shop)
    with pytest.raises(CorruptData):
        await effects.on_event(captured(order_id, amount=1))
    nameless = Event(
        uuid4(), "payments.payment.failed.v1", "/test", order_id, datetime.now(UTC), {}
    )
    with pytest.raises(InvalidInput):
        await effects.on_event(nameless)
    foreign = Event(
        uuid4(),
        "payments.payment.failed.v1",
        "/test",
        order_id,
        datetime.now(UTC),
        {"order_id": str(uuid4())},
    )
    with pytest.raises(CorruptData):
        await effects.on_event(foreign)
    with pytest.raises(NotFound):
        await effects.on_event(failed("01890a5d-ac96-774b-bcce-b302099a8057"))
    assert await history(shop, order_id) == ["pending"]
    assert await shop.rows("SELECT count(*) FROM inbox") == [(0,)]
