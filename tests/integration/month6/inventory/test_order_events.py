"""What order events do to stock, on a real PostgreSQL: once, in any order, answered each time."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest

from month3_messaging.broker import Event
from month6_capstone.inventory.holds import open_hold, set_stock, stock_of, sweep
from month6_capstone.inventory.orders import CANCELLED, PAID, PAYMENT_FAILED, Desk, release, reserve
from month6_capstone.inventory.stock import Level, Line
from scalelab.clients.postgres import Database
from scalelab.clock import ManualClock
from scalelab.errors import Conflict, CorruptData

LINES = [Line("p-1", 2), Line("p-2", 1)]


@pytest.fixture
async def desk(database: Database, clock: ManualClock) -> Desk:
    for product_id in ("p-1", "p-2"):
        await set_stock(database, product_id, 4)
    return Desk(database, clock)


class Order:
    """One order's events about one hold."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.order_id, self.hold_id = uuid4(), uuid4()

    async def hold(self, lines: list[Line] = LINES) -> None:
        await open_hold(
            self.desk.database,
            self.desk.clock,
            hold_id=self.hold_id,
            user_id="ada",
            lines=lines,
            ttl_s=60,
        )

    def event(self, kind: str, **changed: Any) -> Event:
        data: dict[str, Any] = {"order_id": str(self.order_id), "hold_id": str(self.hold_id)}
        if kind == PAID:
            data["user_id"] = "ada"
            data["lines"] = [
                {"product_id": line.product_id, "quantity": line.quantity} for line in LINES
            ]
        now = self.desk.clock.now()
        return Event(uuid4(), kind, "/orders", str(self.order_id), now, data | changed)

    async def answers(self) -> list[tuple[str, str | None]]:
        async with self.desk.database.autocommit() as conn:
            cursor = await conn.execute(
                "SELECT type, value->>'reason' FROM outbox WHERE key = %s ORDER BY id",
                (str(self.order_id),),
            )
            return [(kind.split(".")[2], reason) for kind, reason in await cursor.fetchall()]


async def parts(desk: Desk) -> list[tuple[int, int, int]]:
    levels = [await stock_of(desk.database, product_id) for product_id in ("p-1", "p-2")]
    return [(level.available, level.held, level.reserved) for level in levels]


async def expire(desk: Desk, clock: ManualClock) -> None:
    clock.advance(60)
    await sweep(desk.database, clock, batch=10)


async def test_a_paid_order_keeps_its_hold_for_good(desk: Desk, clock: ManualClock) -> None:
    """Delivered five times at once: one move, one answer; the sweeper leaves it alone."""
    order = Order(desk)
    await order.hold()
    paid = order.event(PAID)
    await asyncio.gather(*(reserve(desk, paid) for _ in range(5)))
    await expire(desk, clock)
    assert await parts(desk) == [(2, 0, 2), (3, 0, 1)]
    assert await order.answers() == [("reserved", None)]


async def test_a_hold_that_ran_out_is_served_from_free_stock(
    desk: Desk, clock: ManualClock
) -> None:
    """The customer paid late; the pieces are still there."""
    order = Order(desk)
    await order.hold()
    await expire(desk, clock)
    await reserve(desk, order.event(PAID))
    assert await parts(desk) == [(2, 0, 2), (3, 0, 1)]
    assert await order.answers() == [("reserved", None)]


async def test_a_hold_that_ran_out_is_rejected_when_the_pieces_are_gone(
    desk: Desk, clock: ManualClock
) -> None:
    """Another order took them: all or nothing, nothing stays behind, and the id is closed."""
    late, quick = Order(desk), Order(desk)
    await late.hold()
    await expire(desk, clock)
    await quick.hold([Line("p-1", 3)])
    await reserve(desk, late.event(PAID))
    assert await late.answers() == [("rejected", "out_of_stock")]
    assert await parts(desk) == [(1, 3, 0), (4, 0, 0)]
    with pytest.raises(Conflict) as refusal:
        await late.hold()
    assert refusal.value.stable_code == "hold_closed"


async def test_an_unknown_hold_takes_free_stock_and_its_late_request_is_answered(
    desk: Desk, clock: ManualClock
) -> None:
    """`paid` overtook the hold's own request: the stock is taken once."""
    order = Order(desk)
    await reserve(desk, order.event(PAID))
    await order.hold()
    assert await parts(desk) == [(2, 0, 2), (3, 0, 1)]


@pytest.mark.parametrize("steps", sorted(permutations(["hold", "paid", "cancelled", "expire"])))
async def test_a_cancelled_order_holds_nothing_in_any_order_of_events(
    desk: Desk, clock: ManualClock, steps: tuple[str, ...]
) -> None:
    """Each event twice, as the broker may deliver it. Tombstones refuse what comes later."""
    order = Order(desk)
    paid, cancelled = order.event(PAID), order.event(CANCELLED)
    for step in steps:
        if step == "expire":
            await expire(desk, clock)
        elif step == "hold":
            await asyncio.gather(order.hold(), return_exceptions=True)
        else:
            handle, event = (reserve, paid) if step == "paid" else (release, cancelled)
            await handle(desk, event)
            await handle(desk, event)
    await expire(desk, clock)
    assert await parts(desk) == [(4, 0, 0), (4, 0, 0)]
    answers = [kind for kind, _reason in await order.answers()]
    assert answers.count("released") == 1
    assert len(answers) == 2


async def test_a_failed_payment_frees_the_stock(desk: Desk) -> None:
    """And a hold that comes afterwards under the same id is refused."""
    order = Order(desk)
    await order.hold()
    await release(desk, order.event(PAYMENT_FAILED))
    assert await parts(desk) == [(4, 0, 0), (4, 0, 0)]
    with pytest.raises(Conflict, match="released"):
        await order.hold()


async def test_racing_buyers_of_expired_holds_never_oversell(
    desk: Desk, clock: ManualClock
) -> None:
    """Eight paid orders whose holds ran out, four pieces: exactly two baskets of two are served."""
    orders = [Order(desk) for _ in range(8)]
    await set_stock(desk.database, "p-2", 100)
    for order in orders:
        await order.hold()
        await expire(desk, clock)
    await asyncio.gather(*(reserve(desk, order.event(PAID)) for order in orders))
    answers = [await order.answers() for order in orders]
    assert sorted(kind for [(kind, _reason)] in answers) == ["rejected"] * 6 + ["reserved"] * 2
    assert await stock_of(desk.database, "p-1") == Level("p-1", 4, 0, 0, 4)


@pytest.mark.parametrize("changed", [{"lines": []}, {"hold_id": "x"}, {"order_id": None}])
async def test_a_malformed_event_is_poison(desk: Desk, changed: dict[str, Any]) -> None:
    """CorruptData, and nothing of it is remembered."""
    order = Order(desk)
    await order.hold()
    with pytest.raises(CorruptData):
        await reserve(desk, order.event(PAID, **changed))
    with pytest.raises(CorruptData, match="other lines"):
        await reserve(desk, order.event(PAID, lines=[{"product_id": "p-1", "quantity": 9}]))
    assert await parts(desk) == [(2, 2, 0), (3, 1, 0)]


async def test_a_hold_serves_one_order(desk: Desk) -> None:
    """Another order that names the same hold is set aside, not served."""
    order = Order(desk)
    await order.hold()
    await reserve(desk, order.event(PAID))
    thief = order.event(PAID, order_id=str(UUID(int=7)))
    with pytest.raises(CorruptData, match="another order"):
        await reserve(desk, thief)
    assert await parts(desk) == [(2, 0, 2), (3, 0, 1)]
