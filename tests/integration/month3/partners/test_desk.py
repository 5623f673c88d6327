"""Money and stock on a real database: holds, events, repeats, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from month3_messaging.broker import Event
from month3_messaging.partners import Line, PartnersSettings, migrate
from month3_messaging.partners import postgres as store
from month3_messaging.partners.answers import CAPTURED, DECLINED_CARD, FAILED, REFUNDED
from month3_messaging.partners.desk import CANCELLED, PAID, PLACED, Desk
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import ManualClock
from scalelab.errors import Conflict, CorruptData, NotFound
from tests.fixtures.databases import DatabaseOf

CARD = "tok_4242424242424242"
PIECES = 5


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _stock(dsn: str) -> None:
    settings = PartnersSettings(
        database_dsn=dsn, kafka_bootstrap="", seed_products=3, seed_pieces=PIECES
    )
    migrate(settings)


@pytest.fixture
def desk_dsn(database_of: DatabaseOf) -> str:
    """Three products with five pieces each."""
    return database_of(_stock)


@pytest.fixture
async def desk(desk_dsn: str, clock: ManualClock) -> AsyncIterator[Desk]:
    """A desk that sells them."""
    async with Database(PostgresSettings(desk_dsn, pool_max=12), name="partners") as opened:
        yield Desk(opened, clock)


def lines(**quantities: int) -> tuple[Line, ...]:
    """`lines(a=2, b=1)`: so many of the first and the second product."""
    names = {"a": "p-0001", "b": "p-0002", "c": "p-0003"}
    return tuple(Line(names[letter], number) for letter, number in quantities.items())


def event(kind: str, order_id: UUID, hold_id: UUID, **data: object) -> Event:
    """An order's event, with all that any of them carries."""
    members: dict[str, object] = {
        "order_id": str(order_id),
        "hold_id": str(hold_id),
        "total_minor": 700,
        "currency": "EUR",
        "card_token": CARD,
        "lines": [{"product_id": "p-0001", "quantity": 2}],
        **data,
    }
    return Event(uuid4(), kind, "/orders", str(order_id), datetime.now(UTC), members)


async def told(desk: Desk) -> list[str]:
    """The types of all answers, in the order of the outbox."""
    async with desk.database.autocommit() as conn:
        cursor = await conn.execute("SELECT type FROM outbox ORDER BY id")
        return [kind for (kind,) in await cursor.fetchall()]


async def books(desk: Desk) -> tuple[int, int]:
    """Money kept, pieces taken; what is taken is always what is promised."""
    async with desk.database.autocommit() as conn:
        found = await store.books(conn)
    assert found["taken"] == found["promised"]
    return found["kept_minor"], found["taken"]


async def test_a_hold_takes_all_lines_or_none(desk: Desk) -> None:
    """Too many of one product: nothing of the other is taken, and the hold can be asked again."""
    wanted = uuid4()
    with pytest.raises(Conflict) as refused:
        await desk.hold(wanted, lines(a=1, b=PIECES + 1), 60.0)
    assert refused.value.stable_code == "out_of_stock"
    assert await books(desk) == (0, 0)
    assert await desk.hold(wanted, lines(a=1, b=PIECES), 60.0)
    assert not await desk.hold(wanted, lines(b=PIECES, a=1), 60.0)
    assert await books(desk) == (0, PIECES + 1)


async def test_a_hold_on_something_unknown_or_for_other_lines_is_refused(desk: Desk) -> None:
    """Clear codes; nothing changes."""
    with pytest.raises(NotFound) as unknown:
        await desk.hold(uuid4(), (Line("p-9999", 1),), 60.0)
    assert unknown.value.stable_code == "unknown_product"
    hold_id = uuid4()
    await desk.hold(hold_id, lines(a=1), 60.0)
    with pytest.raises(Conflict) as other:
        await desk.hold(hold_id, lines(a=2), 60.0)
    assert other.value.stable_code == "hold_closed"
    assert await books(desk) == (0, 1)


async def test_never_more_than_there_is_is_held(desk: Desk) -> None:
    """Many callers at once, for two products in both orders: no deadlock, no oversell."""

    async def one(number: int) -> bool:
        wanted = lines(a=1, b=1) if number % 2 else lines(b=1, a=1)
        try:
            return await desk.hold(uuid4(), wanted, 60.0)
        except Conflict:
            return False

    taken = await asyncio.gather(*(one(number) for number in range(3 * PIECES)))
    assert sum(taken) == PIECES
    assert await books(desk) == (0, 2 * PIECES)


async def test_an_event_that_comes_again_takes_no_money_twice(desk: Desk) -> None:
    """The same event, many times at once."""
    placed = event(PLACED, uuid4(), uuid4())
    await asyncio.gather(*(desk.capture(placed) for _ in range(8)))
    assert await books(desk) == (700, 0)
    assert await told(desk) == [CAPTURED]


async def test_a_cancellation_that_overtakes_the_order_leaves_no_money_behind(desk: Desk) -> None:
    """The tombstone: the late order is answered and takes nothing."""
    order_id, hold_id = uuid4(), uuid4()
    await desk.give_back(event(CANCELLED, order_id, hold_id))
    await desk.capture(event(PLACED, order_id, hold_id))
    assert await books(desk) == (0, 0)
    assert await told(desk) == [FAILED, FAILED]


async def test_a_cancelled_order_gets_its_money_and_its_stock_back(desk: Desk) -> None:
    """Held, paid, reserved, then over."""
    order_id, hold_id = uuid4(), uuid4()
    await desk.hold(hold_id, lines(a=2), 60.0)
    await desk.capture(event(PLACED, order_id, hold_id))
    await desk.reserve(event(PAID, order_id, hold_id))
    assert await books(desk) == (700, 2)
    over = event(CANCELLED, order_id, hold_id)
    await desk.give_back(over)
    await desk.release(over)
    assert await books(desk) == (0, 0)
    assert REFUNDED in await told(desk)


async def test_a_declined_card_pays_nothing(desk: Desk) -> None:
    """And says so."""
    await desk.capture(event(PLACED, uuid4(), uuid4(), card_token=DECLINED_CARD))
    assert await books(desk) == (0, 0)
    assert await told(desk) == [FAILED]


async def test_a_hold_ends_by_itself_unless_its_order_was_paid(
    desk: Desk, clock: ManualClock
) -> None:
    """The sweeper takes back the one and leaves the other."""
    paid, unpaid = uuid4(), uuid4()
    await desk.hold(paid, lines(a=2), 60.0)
    await desk.hold(unpaid, lines(b=1), 60.0)
    await desk.reserve(event(PAID, uuid4(), paid))
    assert await desk.sweep() == 0
    clock.advance(timedelta(seconds=61).total_seconds())
    assert await desk.sweep() == 1
    assert await books(desk) == (0, 2)


@pytest.mark.parametrize("data", [{"total_minor": "700"}, {"total_minor": 0}, {"currency": "euro"}])
async def test_an_event_that_cannot_be_meant_changes_nothing(
    desk: Desk, data: dict[str, object]
) -> None:
    """A dead letter, not a guess."""
    with pytest.raises(CorruptData):
        await desk.capture(event(PLACED, uuid4(), uuid4(), **data))
    assert await told(desk) == []


async def test_an_order_paid_for_other_lines_than_it_holds_is_refused(desk: Desk) -> None:
    """Somebody mixed two orders up: nothing is reserved and nothing said."""
    hold_id = uuid4()
    await desk.hold(hold_id, lines(a=1), 60.0)
    with pytest.raises(CorruptData):
        await desk.reserve(event(PAID, uuid4(), hold_id))
    assert await told(desk) == []


async def test_stock_can_never_be_below_nothing(desk: Desk, desk_dsn: str) -> None:
    """The last line of defence is the table itself."""
    with psycopg.connect(desk_dsn) as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute("UPDATE product SET free = free - 100, taken = taken + 100")
