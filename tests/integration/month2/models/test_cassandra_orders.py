"""The order model on the ring: three tables that say the same, sooner or later."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from month2_databases.consistency import Ring
from month2_databases.models.cassandra import TABLES, Line, OrderTables, RingOrder
from scalelab.errors import Conflict, InvalidInput, NotFound

pytestmark = pytest.mark.timeout(300)  # whoever comes first starts the ring

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MONTHS = ("2026-12", "2026-11", "2026-10")


@pytest.fixture
async def tables(ring: Ring) -> OrderTables:
    """The tables, made."""
    await ring.define(*TABLES)
    return OrderTables(ring)


def order(user: str, *, at: datetime = NOON) -> RingOrder:
    """Three of one thing and one of another: 4050 cents."""
    lines = (Line("tea", 3, 1250), Line("cup", 1, 300))
    return RingOrder(uuid.uuid4(), user, at, lines)


async def test_an_order_is_found_by_every_question(tables: OrderTables, fresh_key: str) -> None:
    """By id, whole; among its user's; among those of the day that wait."""
    placed = order(fresh_key)
    await tables.place(placed)
    assert await tables.by_id(placed.order_id) == placed
    [head] = await tables.of_user(fresh_key, MONTHS, most=10)
    assert (head.order_id, head.state, head.total_cents) == (placed.order_id, "pending", 4050)
    assert placed.order_id in await tables.waiting(NOON.date())


async def test_a_users_orders_come_newest_first_over_months(
    tables: OrderTables, fresh_key: str
) -> None:
    """Partitions are months: the list goes on in the month before, up to its bound."""
    placed = [order(fresh_key, at=NOON - timedelta(days=20 * age)) for age in range(3)]
    await asyncio.gather(*(tables.place(one) for one in placed))
    heads = await tables.of_user(fresh_key, MONTHS, most=10)
    assert [head.order_id for head in heads] == [one.order_id for one in placed]
    assert await tables.of_user(fresh_key, MONTHS, most=2) == heads[:2]


async def test_a_state_moves_in_all_tables(tables: OrderTables, fresh_key: str) -> None:
    """What is paid waits no more, and the user sees it."""
    placed = order(fresh_key)
    await tables.place(placed)
    moved = await tables.move(placed.order_id, expected="pending", state="paid")
    assert moved.state == (await tables.by_id(placed.order_id)).state == "paid"
    [head] = await tables.of_user(fresh_key, MONTHS, most=10)
    assert head.state == "paid"
    assert placed.order_id not in await tables.waiting(NOON.date())


async def test_placing_an_order_again_takes_no_change_back(
    tables: OrderTables, fresh_key: str
) -> None:
    """A retry that comes late, after the order was paid; also if its instant lies ahead."""
    placed = order(fresh_key, at=datetime(2126, 11, 27, tzinfo=UTC))
    await tables.place(placed)
    await tables.move(placed.order_id, expected="pending", state="paid")
    await tables.place(placed)
    assert (await tables.by_id(placed.order_id)).state == "paid"
    assert placed.order_id not in await tables.waiting(placed.placed_at.date())


async def test_of_two_moves_at_once_one_is_a_conflict(tables: OrderTables, fresh_key: str) -> None:
    """Paid or cancelled, not both; and the same move again is none."""
    placed = order(fresh_key)
    await tables.place(placed)
    await tables.move(placed.order_id, expected="pending", state="paid")
    with pytest.raises(Conflict):
        await tables.move(placed.order_id, expected="pending", state="cancelled")
    assert (await tables.move(placed.order_id, expected="pending", state="paid")).state == "paid"


async def test_tables_that_a_dead_writer_left_behind_are_settled(
    tables: OrderTables, ring: Ring, fresh_key: str
) -> None:
    """It had moved the order and written nothing else."""
    placed = order(fresh_key)
    await tables.place(placed)
    await ring.compare_and_set(
        "UPDATE order_by_id SET state = ? WHERE order_id = ? IF state = ?",
        ("paid", placed.order_id, "pending"),
    )
    assert placed.order_id in await tables.waiting(NOON.date())
    await tables.settle(placed.order_id)
    assert placed.order_id not in await tables.waiting(NOON.date())


async def test_an_order_that_is_not_there_is_not_found(tables: OrderTables) -> None:
    """Neither read nor moved, and moving it makes none."""
    nowhere = uuid.uuid4()
    with pytest.raises(NotFound):
        await tables.by_id(nowhere)
    with pytest.raises(NotFound):
        await tables.move(nowhere, expected="pending", state="paid")
    with pytest.raises(NotFound):
        await tables.by_id(nowhere)


@pytest.mark.parametrize("lines", [(), (Line("tea", 1, 1),) * 101])
def test_an_order_without_lines_or_with_too_many_is_refused(lines: tuple[Line, ...]) -> None:
    """One partition holds it whole, so it is bounded."""
    with pytest.raises(InvalidInput):
        RingOrder(uuid.uuid4(), "u", NOON, lines)
