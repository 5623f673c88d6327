"""Slots move while their users write: nothing fails, nothing is lost, nothing is there twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.resharding import (
    ABORT_POINTS,
    POINTS,
    EmptiedTable,
    MovedTable,
    Mover,
    MoveSettings,
    Step,
)
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from tests.integration.month2.resharding.conftest import Shop

Wait = Callable[..., Awaitable[None]]


class Stopped(Exception):
    """The mover was stopped here by the test."""


def stopping_at(point: str) -> Callable[[str], None]:
    def passed(here: str) -> None:
        if here == point:
            raise Stopped

    return passed


async def opened(shop: Shop, slots: tuple[int, ...]) -> list[str]:
    users = [shop.user_in(slot) for slot in slots]
    for user in users:
        await shop.open_account(user)
        for n in range(1, 4):
            await shop.add(user, n)
    return users


async def all_go_on(shop: Shop, wait_until: Wait) -> None:
    """Every writer gets a further entry acknowledged."""
    now = {user: len(acked) for user, acked in shop.acked.items()}
    await wait_until(
        lambda: all(len(shop.acked[user]) > now[user] for user in now) or bool(shop.failed),
        what="every writer goes on",
    )


async def test_writers_notice_nothing_of_a_move(shop: Shop, wait_until: Wait) -> None:
    """G1: 0 failed, 0 lost, 0 double, entries in order; other slots stay where they are."""
    moving = shop.slots_of("a", 3)
    staying = (shop.slots_of("a", 4)[-1], shop.slots_of("b", 1)[0])
    users = await opened(shop, (*moving, *staying))
    mover = shop.mover()
    await mover.plan("m1", moving, "b")
    async with shop.writing(users):
        await all_go_on(shop, wait_until)
        move = await mover.run("m1")
        await all_go_on(shop, wait_until)
    assert shop.failed == []
    assert (move.step, move.rows > 0) == (Step.DONE, True)
    assert shop.entries() == shop.acked
    assert shop.totals() == {user: sum(acked) for user, acked in shop.acked.items()}
    assert [shop.router.shard_map.shard_of(slot) for slot in moving] == ["b"] * 3
    assert shop.rows("a", "SELECT DISTINCT slot FROM account") == [(staying[0],)]
    assert shop.left_behind() == []


async def test_every_kind_of_change_during_the_move_arrives(shop: Shop) -> None:
    """Updates, deletes, a changed key, a large value left untouched, NULL, and rows of others."""
    moving, staying = shop.slots_of("a", 2)
    mine, other = await opened(shop, (moving, staying))
    big = "x" * 200_000
    changed: list[bool] = []

    def passed(point: str) -> None:
        if point != "catching_up.begun":
            return
        with psycopg.connect(shop.dsns["a"]) as conn:
            for user, slot in ((mine, moving), (other, staying)):
                add = "INSERT INTO entry (account, n, slot, amount) VALUES (%s, %s, %s, 7)"
                conn.execute("UPDATE account SET note = %s WHERE id = %s", (big, user))
                conn.execute("UPDATE account SET total = -5 WHERE id = %s", (user,))
                conn.execute("DELETE FROM entry WHERE account = %s AND n = 1", (user,))
                conn.execute("UPDATE entry SET n = 50 WHERE account = %s AND n = 2", (user,))
                conn.execute(add, (user, 60, slot))
                conn.execute(add, (user, 61, slot))
                conn.execute("DELETE FROM entry WHERE account = %s AND n = 61", (user,))
        changed.append(True)

    mover = shop.mover(passed=passed)
    await mover.plan("m1", [moving], "b")
    assert (await mover.run("m1")).step is Step.DONE
    assert changed
    for shard, user, slot in (("b", mine, moving), ("a", other, staying)):
        assert shop.rows(shard, "SELECT id, slot, total, length(note) FROM account") == [
            (user, slot, -5, 200_000)
        ]
        entries = shop.rows(shard, "SELECT n, amount, twice FROM entry ORDER BY n")
        assert entries == [(3, 3, 6), (50, 2, 4), (60, 7, 14)]


@pytest.mark.timeout(300)
async def test_a_move_is_carried_on_after_a_kill_at_every_point(
    shop: Shop, wait_until: Wait
) -> None:
    """G3: one process after the other, each killed one point further on; writers go on all along.

    Each process must die of the kill, so that no point is passed over silently.
    """
    moving = shop.slots_of("a", 2)
    users = await opened(shop, (*moving, shop.slots_of("a", 3)[-1]))
    await shop.mover().plan("m1", moving, "b")
    ends: dict[str, int] = {}
    async with shop.mortal_movers("m1") as run, shop.writing(users):
        for point in POINTS:
            ends[point] = await run(point)
        assert await run("none") == 0
        await all_go_on(shop, wait_until)
    assert ends == dict.fromkeys(POINTS, -9)
    assert shop.failed == []
    assert (await shop.mover().journal.get("m1")).step is Step.DONE
    assert shop.entries() == shop.acked
    assert shop.rows("a", "SELECT count(*) FROM account") == [(1,)]
    assert shop.left_behind() == []


@pytest.mark.parametrize("point", ["copying.done", "catching_up.done", "fencing.closed"])
async def test_an_abort_leaves_nothing_behind(shop: Shop, wait_until: Wait, point: str) -> None:
    """The map, the slots, the rows and the log are as before; the same slots can move again."""
    moving = shop.slots_of("a", 2)
    users = await opened(shop, moving)
    before = await shop.store.current()
    mover = shop.mover(passed=stopping_at(point))
    await mover.plan("m1", moving, "b")
    async with shop.writing(users):
        with pytest.raises(Stopped):
            await mover.run("m1")
        move = await shop.mover().abort("m1", reason="changed our mind")
        await all_go_on(shop, wait_until)
    assert (move.step, move.reason) == (Step.ABORTED, "changed our mind")
    after = await shop.store.current()
    assert (after.shard_map.owners, after.moves) == (before.shard_map.owners, ())
    assert shop.failed == []
    assert shop.entries() == shop.acked
    assert shop.rows("b", "SELECT id FROM account") == []
    assert shop.left_behind() == []
    await shop.mover().plan("m2", moving, "b")
    assert (await shop.mover().run("m2")).step is Step.DONE
    assert shop.entries() == shop.acked


async def test_an_abort_is_carried_on_after_a_kill_at_every_point(
    shop: Shop, wait_until: Wait
) -> None:
    """G3: killed with the fence closed, then in its abort, one point further on each time."""
    moving = shop.slots_of("a", 2)
    users = await opened(shop, moving)
    before = await shop.store.current()
    await shop.mover().plan("m1", moving, "b")
    ends: dict[str, int] = {}
    async with shop.mortal_movers("m1") as run, shop.writing(users):
        assert await run("fencing.closed") == -9
        for point in ABORT_POINTS:
            ends[point] = await run(f"abort {point}")
        assert await run("none") == 0
        await all_go_on(shop, wait_until)
    assert ends == dict.fromkeys(ABORT_POINTS, -9)
    assert shop.failed == []
    move = await shop.mover().journal.get("m1")
    assert (move.step, move.reason) == (Step.ABORTED, "asked for")
    after = await shop.store.current()
    assert (after.shard_map.owners, after.moves) == (before.shard_map.owners, ())
    assert shop.entries() == shop.acked
    assert shop.rows("b", "SELECT id FROM account") == []
    assert shop.left_behind() == []


async def test_an_abort_is_refused_once_the_target_has_the_slots(shop: Shop) -> None:
    """I2 of the steps: it can only be finished, and is."""
    moving = shop.slots_of("a", 1)
    await opened(shop, moving)
    mover = shop.mover(passed=stopping_at("switching.published"))
    await mover.plan("m1", moving, "b")
    with pytest.raises(Stopped):
        await mover.run("m1")
    with pytest.raises(Conflict) as caught:
        await shop.mover().abort("m1")
    assert caught.value.stable_code == "move_switched"
    assert (await shop.mover().run("m1")).step is Step.DONE
    assert shop.entries() == shop.acked


@pytest.mark.parametrize("point", ["copying.done", "catching_up.done", "fencing.done"])
async def test_a_lost_replication_slot_aborts_the_move(
    shop: Shop, wait_until: Wait, point: str
) -> None:
    """G5: dropped as a failover drops it. After the fence's work it is not needed any more."""
    moving = shop.slots_of("a", 1)
    users = await opened(shop, moving)

    def passed(here: str) -> None:
        if here == point:
            with psycopg.connect(shop.servers["a"].dsn, autocommit=True) as conn:
                conn.execute("SELECT pg_drop_replication_slot('m1')")

    mover = shop.mover(passed=passed)
    await mover.plan("m1", moving, "b")
    async with shop.writing(users):
        move = await mover.run("m1")
        await all_go_on(shop, wait_until)
    assert shop.failed == []
    assert shop.entries() == shop.acked
    assert shop.left_behind() == []
    if point == "fencing.done":
        assert move.step is Step.DONE
        return
    assert (move.step, "m1" in move.reason) == (Step.ABORTED, True)
    assert shop.rows("b", "SELECT id FROM account") == []


async def test_rows_that_differ_are_found_before_the_switch(shop: Shop) -> None:
    """G4: a row changed at the target behind the mover's back; the source keeps the slots."""
    moving = shop.slots_of("a", 1)
    (user,) = await opened(shop, moving)

    def passed(here: str) -> None:
        if here == "verifying.begun":
            with psycopg.connect(shop.servers["b"].dsn) as conn:
                conn.execute("SET session_replication_role = replica")
                conn.execute("UPDATE account SET total = total + 1")

    mover = shop.mover(passed=passed)
    await mover.plan("m1", moving, "b")
    move = await mover.run("m1")
    assert (move.step, move.reason) == (
        Step.ABORTED,
        "rows differ in account (1 rows, 1 copied)",
    )
    await shop.add(user, 4)
    assert shop.entries() == shop.acked


async def test_a_key_that_the_target_has_already_aborts_the_move(shop: Shop) -> None:
    """Ids must be unique over all shards; where they are not, nobody's row is overwritten."""
    moving = shop.slots_of("a", 1)
    (user,) = await opened(shop, moving)
    (elsewhere,) = shop.slots_of("b", 1)
    async with shop.router.session_for_user(shop.user_in(elsewhere)) as conn:
        await conn.execute("INSERT INTO account VALUES ('fresh', %s, 9)", (elsewhere,))

    def passed(here: str) -> None:
        if here == "catching_up.begun":
            with psycopg.connect(shop.dsns["a"]) as conn:
                conn.execute("INSERT INTO account VALUES ('fresh', %s, 1)", (moving[0],))

    mover = shop.mover(passed=passed)
    await mover.plan("m1", moving, "b")
    move = await mover.run("m1")
    assert (move.step, "another row with the key" in move.reason) == (Step.ABORTED, True)
    assert shop.rows("b", "SELECT id, total FROM account") == [("fresh", 9)]
    assert shop.rows("a", "SELECT id FROM account ORDER BY id") == [("fresh",), (user,)]


async def test_one_process_carries_a_move_at_a_time(shop: Shop) -> None:
    """Another is told; and who was overtaken can write nothing any more."""
    moving = shop.slots_of("a", 1)
    await opened(shop, moving)
    mover = shop.mover()
    await mover.plan("m1", moving, "b")
    async with mover.journal.owned("m1") as move:
        with pytest.raises(Conflict) as caught:
            await shop.mover().run("m1")
        assert caught.value.stable_code == "move_in_progress"
    async with mover.journal.owned("m1"):
        with pytest.raises(Conflict) as caught:
            await mover.journal.put(move, replace(move, step=Step.COPYING))
        assert caught.value.stable_code == "move_taken_over"


async def test_a_zombie_cannot_remove_rows_of_a_shard_that_owns_them(shop: Shop) -> None:
    """The right to remove is judged by the shard, in the removing transaction."""
    from month2_databases.resharding.rows import delete_rows, layouts_of

    moving = shop.slots_of("a", 1)
    await opened(shop, moving)
    layouts = await layouts_of(shop.servers["a"], [MovedTable("account"), MovedTable("entry")])
    with pytest.raises(Conflict) as caught:
        await delete_rows(shop.servers["a"], layouts, moving, batch=10, pause_s=0.0)
    assert caught.value.stable_code == "slot_owned"
    assert shop.entries() == shop.acked


@pytest.mark.parametrize(
    ("ddl", "tables", "code"),
    [
        ("CREATE TABLE t (slot smallint)", ("t",), "table_without_key"),
        ("CREATE TABLE t (id int PRIMARY KEY)", ("t",), "table_without_slot"),
        ("SELECT 1", ("nothing",), "table_missing"),
        ("ALTER TABLE account ADD COLUMN more int", ("account",), "tables_differ"),
    ],
)
async def test_a_table_that_cannot_be_moved_is_refused_before_anything_is_made(
    shop: Shop, ddl: str, tables: tuple[str, ...], code: str
) -> None:
    """Nothing changes: no slot, no publication, no new map."""
    with psycopg.connect(shop.servers["a"].dsn) as conn:
        conn.execute(ddl.encode())
    if code != "tables_differ":
        with psycopg.connect(shop.servers["b"].dsn) as conn:
            conn.execute(ddl.encode())
    moved = [MovedTable(name) for name in tables]
    mover = Mover(shop.store, shop.servers, moved, clock=SystemClock(), settings=MoveSettings())
    with pytest.raises(InvalidInput) as caught:
        await mover.plan("m1", shop.slots_of("a", 1), "b")
    assert caught.value.stable_code == code
    assert (await shop.store.current()).version == 1
    assert shop.left_behind() == []


async def test_a_move_that_makes_no_sense_is_refused(shop: Shop) -> None:
    """Unknown slots and shards, two owners, the owner itself, an unknown move."""
    mover = shop.mover()
    for slots, target in (([256], "b"), ([], "b"), ([0, 255], "b"), ([0], "a")):
        with pytest.raises(InvalidInput):
            await mover.plan("m1", slots, target)
    with pytest.raises(NotFound) as caught:
        await mover.plan("m1", [0], "c")
    assert caught.value.stable_code == "shard_unknown"
    await mover.journal.create()
    with pytest.raises(NotFound) as caught:
        await mover.run("m1")
    assert caught.value.stable_code == "move_unknown"
    assert (await shop.store.current()).version == 1


EVENTS = EmptiedTable("event", "sent_at")


def event_of(shop: Shop, slot: int) -> None:
    """Something of this slot that waits on shard a."""
    with psycopg.connect(shop.servers["a"].dsn) as conn:
        conn.execute(
            "CREATE TABLE IF NOT EXISTS event (slot smallint NOT NULL, sent_at timestamptz)"
        )
        conn.execute("INSERT INTO event VALUES (%s, NULL)", (slot,))


async def test_a_slot_moves_once_what_has_to_leave_before_it_has_left(shop: Shop) -> None:
    """Events of the slot wait as the fence closes; they leave then, and their rows stay."""
    (slot,) = moving = shop.slots_of("a", 1)
    await opened(shop, moving)
    event_of(shop, slot)
    seen: list[bool] = []

    def passed(point: str) -> None:
        if point == "fencing.closed":
            with psycopg.connect(shop.servers["a"].dsn) as conn:
                conn.execute("UPDATE event SET sent_at = now()")
        if point == "switching.begun":
            seen.append(all(row[0] for row in shop.rows("a", "SELECT sent_at FROM event")))

    mover = shop.mover(emptied=[EVENTS], passed=passed)
    await mover.plan("m1", moving, "b")
    assert (await mover.run("m1")).step is Step.DONE
    assert seen == [True]
    assert len(shop.rows("a", "SELECT FROM event")) == 1


async def test_a_slot_whose_events_cannot_leave_stays(shop: Shop) -> None:
    """Whoever carries them is away: the move turns back, and the source takes writes again."""
    (slot,) = moving = shop.slots_of("a", 1)
    await opened(shop, moving)
    event_of(shop, slot)
    mover = shop.mover(MoveSettings(grace_s=0.0, retry_s=0.05, empty_s=0.1), emptied=[EVENTS])
    await mover.plan("m1", moving, "b")
    move = await mover.run("m1")
    assert (move.step, "does not empty" in move.reason) == (Step.ABORTED, True)
    await shop.add(shop.user_in(slot), len(shop.acked[shop.user_in(slot)]) + 1)
    assert shop.entries() == shop.acked
    assert shop.left_behind() == []
