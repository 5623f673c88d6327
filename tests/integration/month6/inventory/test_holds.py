"""Holds on a real PostgreSQL: all or nothing, idempotent, never more than there is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from month6_capstone.inventory import postgres as store
from month6_capstone.inventory.holds import Opened, drop_hold, open_hold, set_stock, stock_of, sweep
from month6_capstone.inventory.stock import Level, Line
from scalelab.clients.postgres import Database
from scalelab.clock import ManualClock
from scalelab.errors import Conflict, IdempotencyMismatch, NotFound
from tests.integration.month6.payments.waiting import someone_waits

TTL_S = 60.0


async def hold(
    database: Database, clock: ManualClock, *lines: Line, hold_id: UUID | None = None
) -> Opened:
    return await open_hold(
        database, clock, hold_id=hold_id or uuid4(), user_id="ada", lines=lines, ttl_s=TTL_S
    )


async def test_a_hold_moves_all_its_lines(database: Database, clock: ManualClock) -> None:
    """Every line of the basket leaves `available` and stands in `held`."""
    await set_stock(database, "p-1", 10)
    await set_stock(database, "p-2", 5)
    opened = await hold(database, clock, Line("p-2", 5), Line("p-1", 3))
    assert opened.is_new
    assert await stock_of(database, "p-1") == Level("p-1", 10, 7, 3)
    assert await stock_of(database, "p-2") == Level("p-2", 5, 0, 5)


async def test_a_basket_that_does_not_fit_takes_nothing(
    database: Database, clock: ManualClock
) -> None:
    """One short line is enough to leave every product as it was."""
    await set_stock(database, "p-1", 10)
    await set_stock(database, "p-2", 1)
    with pytest.raises(Conflict) as refusal:
        await hold(database, clock, Line("p-1", 3), Line("p-2", 2))
    assert refusal.value.stable_code == "out_of_stock"
    assert await stock_of(database, "p-1") == Level("p-1", 10, 10)


async def test_an_unknown_product_is_named(database: Database, clock: ManualClock) -> None:
    """404 unknown_product, and the known line takes nothing."""
    await set_stock(database, "p-1", 10)
    with pytest.raises(NotFound, match="p-9") as refusal:
        await hold(database, clock, Line("p-1", 3), Line("p-9", 2))
    assert refusal.value.stable_code == "unknown_product"
    assert await stock_of(database, "p-1") == Level("p-1", 10, 10)


async def test_a_repeated_hold_is_the_same_hold(database: Database, clock: ManualClock) -> None:
    """Also when the first one took the last piece: the repeat is not told `out_of_stock`."""
    await set_stock(database, "p-1", 3)
    hold_id = uuid4()
    first = await hold(database, clock, Line("p-1", 3), hold_id=hold_id)
    again = await hold(database, clock, Line("p-1", 3), hold_id=hold_id)
    assert (again.expires_at, again.is_new) == (first.expires_at, False)
    with pytest.raises(IdempotencyMismatch):
        await hold(database, clock, Line("p-1", 1), hold_id=hold_id)
    assert await stock_of(database, "p-1") == Level("p-1", 3, 0, 3)


async def test_racing_copies_of_one_hold_take_stock_once(
    database: Database, clock: ManualClock
) -> None:
    """Ten copies at once: one is new, all are answered alike."""
    await set_stock(database, "p-1", 5)
    hold_id = uuid4()
    opened = await asyncio.gather(
        *(hold(database, clock, Line("p-1", 5), hold_id=hold_id) for _ in range(10))
    )
    assert sum(each.is_new for each in opened) == 1
    assert await stock_of(database, "p-1") == Level("p-1", 5, 0, 5)


async def test_a_flash_sale_sells_exactly_what_is_there(
    database: Database, clock: ManualClock
) -> None:
    """200 buyers of two products in opposite order, 50 pieces each: no deadlock, 50 holds."""
    await set_stock(database, "p-1", 50)
    await set_stock(database, "p-2", 50)

    async def buy(number: int) -> bool:
        lines = [Line("p-1", 1), Line("p-2", 1)]
        try:
            await hold(database, clock, *(lines if number % 2 else reversed(lines)))
        except Conflict as refusal:
            if refusal.stable_code != "out_of_stock":
                raise
            return False
        return True

    bought = await asyncio.gather(*(buy(number) for number in range(200)))
    assert sum(bought) == 50
    assert await stock_of(database, "p-1") == Level("p-1", 50, 0, 50)
    assert await stock_of(database, "p-2") == Level("p-2", 50, 0, 50)


async def test_a_hold_that_was_let_go_stays_closed(database: Database, clock: ManualClock) -> None:
    """Dropping frees the stock once; the id cannot be opened again, known before or not."""
    await set_stock(database, "p-1", 5)
    known, unknown = uuid4(), uuid4()
    await hold(database, clock, Line("p-1", 2), hold_id=known)
    for hold_id in (known, known, unknown):
        await drop_hold(database, clock, hold_id)
    for hold_id in (known, unknown):
        with pytest.raises(Conflict) as refusal:
            await hold(database, clock, Line("p-1", 2), hold_id=hold_id)
        assert refusal.value.stable_code == "hold_closed"
    assert await stock_of(database, "p-1") == Level("p-1", 5, 5)


async def test_racing_open_and_drop_leak_nothing(database: Database, clock: ManualClock) -> None:
    """Whoever wins, an id that was dropped holds nothing in the end."""
    await set_stock(database, "p-1", 100)
    ids = [uuid4() for _ in range(40)]
    await asyncio.gather(
        *(hold(database, clock, Line("p-1", 1), hold_id=hold_id) for hold_id in ids),
        *(drop_hold(database, clock, hold_id) for hold_id in ids),
        return_exceptions=True,
    )
    assert await stock_of(database, "p-1") == Level("p-1", 100, 100)


async def test_expired_holds_give_their_stock_back(database: Database, clock: ManualClock) -> None:
    """In batches smaller than the backlog; a hold that is not due stays."""
    await set_stock(database, "p-1", 20)
    await asyncio.gather(*(hold(database, clock, Line("p-1", 1)) for _ in range(7)))
    clock.advance(TTL_S)
    await hold(database, clock, Line("p-1", 2))
    swept = await asyncio.gather(*(sweep(database, clock, batch=3) for _ in range(3)))
    assert sum(swept) == 7
    assert await stock_of(database, "p-1") == Level("p-1", 20, 18, 2)


async def test_an_expired_hold_can_be_taken_again(database: Database, clock: ManualClock) -> None:
    """The same request after expiry takes stock anew, if there still is some."""
    await set_stock(database, "p-1", 3)
    hold_id = uuid4()
    await hold(database, clock, Line("p-1", 3), hold_id=hold_id)
    clock.advance(TTL_S)
    await sweep(database, clock, batch=10)
    again = await hold(database, clock, Line("p-1", 3), hold_id=hold_id)
    assert again.is_new
    clock.advance(TTL_S)
    await sweep(database, clock, batch=10)
    await hold(database, clock, Line("p-1", 1))
    with pytest.raises(Conflict) as refusal:
        await hold(database, clock, Line("p-1", 3), hold_id=hold_id)
    assert refusal.value.stable_code == "out_of_stock"


async def test_setting_stock_keeps_what_is_out(database: Database, clock: ManualClock) -> None:
    """Restocking changes `available` only; less than what is held is refused."""
    await set_stock(database, "p-1", 3)
    await hold(database, clock, Line("p-1", 2))
    assert await set_stock(database, "p-1", 10) == Level("p-1", 10, 8, 2)
    with pytest.raises(Conflict) as refusal:
        await set_stock(database, "p-1", 1)
    assert refusal.value.stable_code == "stock_in_use"


async def test_a_drop_that_meets_a_hold_being_made_releases_it(
    database: Database, clock: ManualClock
) -> None:
    """The hold commits between the drop's look and its tombstone: its stock comes back."""
    await set_stock(database, "p-1", 3)
    hold_id = uuid4()
    async with database.transaction() as conn:
        expires_at = clock.now() + timedelta(seconds=TTL_S)
        lines = [Line("p-1", 2)]
        await store.take(conn, hold_id, "ada", lines, now=clock.now(), expires_at=expires_at)
        dropping = asyncio.create_task(drop_hold(database, clock, hold_id))
        await someone_waits(database)
    await dropping
    assert await stock_of(database, "p-1") == Level("p-1", 3, 3)


async def test_the_sweeper_passes_over_holds_that_others_work_on(
    database: Database, clock: ManualClock
) -> None:
    """A locked hold holds up nobody, and is not ended behind its holder's back."""
    await set_stock(database, "p-1", 3)
    busy = await hold(database, clock, Line("p-1", 1))
    await hold(database, clock, Line("p-1", 1))
    clock.advance(TTL_S)
    async with database.transaction() as conn:
        await store.lock_hold(conn, busy.hold_id)
        assert await sweep(database, clock, batch=10) == 1
    assert await sweep(database, clock, batch=10) == 1
