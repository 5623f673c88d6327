"""L1 to L4 of month5_kvstore/locks/locks.py and W1, W2 of watchdog.py, on every lock service."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from random import Random

import psycopg
import pytest

from month5_kvstore.experiments.lock_worker import Bed
from month5_kvstore.experiments.lock_workers import LockWorker
from month5_kvstore.locks import DDL, Grasp, Hold, LockLost, Locks, holding, open_locks, stand
from scalelab.clock import SystemClock
from scalelab.errors import DeadlineExceeded, InvalidInput, Retryable
from tests.contracts.month5.keepers import KINDS, Keeper

pytestmark = pytest.mark.timeout(240)
CLOCK = SystemClock()
WITHIN_S = 60.0
LONG_S = 120.0


@pytest.fixture(params=[*KINDS, "redis"])
def keeper(request: pytest.FixtureRequest) -> Keeper:
    """Each in turn."""
    found: Keeper = request.getfixturevalue(f"{request.param}_keeper")
    return found


@pytest.fixture
async def locks(keeper: Keeper) -> AsyncIterator[Locks]:
    """A client of it."""
    async with open_locks(keeper.address, clock=CLOCK, random=Random(1)) as opened:
        yield opened


@pytest.fixture
async def others(keeper: Keeper) -> AsyncIterator[Locks]:
    """Another client of the same."""
    async with open_locks(keeper.address, clock=CLOCK, random=Random(2)) as opened:
        yield opened


@pytest.fixture
def name() -> str:
    """A lock that no other test takes."""
    return f"l{uuid.uuid4().hex[:12]}"


async def taken(locks: Locks, name: str, holder: str, ttl_s: float = LONG_S) -> Hold:
    """Wait until it can be had."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                hold = await locks.acquire(name, holder, ttl_s=ttl_s)
            except Retryable:
                hold = None
            if hold is not None:
                return hold
            await asyncio.sleep(0.05)


async def until(holds: Callable[[], bool]) -> None:
    """Poll until it holds; the caller sets the deadline."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.02)


async def test_one_has_it_and_the_next_gets_it_with_a_higher_token(
    locks: Locks, others: Locks, name: str
) -> None:
    """L1, L2."""
    tokens: list[int] = []
    for turn in range(4):
        mine, other = (locks, others) if turn % 2 else (others, locks)
        hold = await taken(mine, name, f"holder-{turn}")
        assert await other.acquire(name, "other", ttl_s=LONG_S) is None
        assert await mine.acquire(name, f"holder-{turn}", ttl_s=LONG_S) is None
        assert await other.holder(name) == f"holder-{turn}"
        await hold.renew()
        await hold.release()
        assert await other.holder(name) is None
        tokens.append(hold.token)
    assert tokens == sorted(set(tokens))
    assert tokens[0] > 0


async def test_a_hold_that_was_given_back_is_lost_and_harms_no_successor(
    locks: Locks, others: Locks, name: str
) -> None:
    """L3."""
    old = await taken(locks, name, "old")
    await old.release()
    new = await taken(others, name, "new")
    with pytest.raises(LockLost):
        await old.renew()
    await old.release()
    await new.renew()
    assert await locks.holder(name) == "new"
    await new.release()


async def test_two_locks_do_not_hinder_each_other(locks: Locks, name: str) -> None:
    first, second = await taken(locks, f"{name}.a", "x"), await taken(locks, f"{name}.b", "x")
    assert await locks.holder(f"{name}.a") == await locks.holder(f"{name}.b") == "x"
    await first.release()
    await second.renew()
    await second.release()


async def test_of_many_only_one_is_inside_at_a_time(locks: Locks, others: Locks, name: str) -> None:
    """L1, L2: twelve tasks through two clients; each adds one to a number without care."""
    number, tokens = 0, list[int]()

    async def work(turn: int) -> None:
        nonlocal number
        async with holding(
            locks if turn % 2 else others,
            name,
            f"task-{turn}",
            ttl_s=LONG_S,
            wait_s=LONG_S,
            clock=CLOCK,
            random=Random(turn),
        ) as grasp:
            before = number
            tokens.append(grasp.token)
            await asyncio.sleep(0)
            number = before + 1

    async with asyncio.timeout(2 * WITHIN_S):
        await asyncio.gather(*(work(turn) for turn in range(12)))
    assert number == 12
    assert tokens == sorted(set(tokens))


async def test_who_waits_in_vain_is_told(locks: Locks, others: Locks, name: str) -> None:
    hold = await taken(locks, name, "first")
    with pytest.raises(DeadlineExceeded) as refused:
        async with holding(
            others, name, "second", ttl_s=LONG_S, wait_s=0.2, clock=CLOCK, random=Random(1)
        ):
            raise AssertionError("two are in")
    assert refused.value.stable_code == "lock_busy"
    await hold.release()


async def test_the_watchdog_renews_while_the_work_goes_on(locks: Locks, name: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        async with holding(
            locks,
            name,
            "me",
            ttl_s=LONG_S,
            wait_s=LONG_S,
            clock=CLOCK,
            random=Random(1),
            renew_every_s=0.05,
        ) as grasp:
            await until(lambda: grasp.renewals >= 3)
        assert await locks.holder(name) is None


async def test_work_that_never_ends_gives_the_lock_up(locks: Locks, name: str) -> None:
    """W2."""
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(LockLost):
            async with holding(
                locks,
                name,
                "me",
                ttl_s=LONG_S,
                wait_s=LONG_S,
                clock=CLOCK,
                random=Random(1),
                longest_s=0.2,
            ):
                await asyncio.Event().wait()
        assert await locks.holder(name) is None


async def test_work_is_cancelled_when_nothing_is_heard_of_the_service(
    keeper: Keeper, locks: Locks, name: str
) -> None:
    """W1: the hold ends on the holder's own clock, for others may have it by then."""

    async def work() -> None:
        async with holding(
            locks, name, "me", ttl_s=keeper.short_s, wait_s=LONG_S, clock=CLOCK, random=Random(1)
        ):
            await asyncio.to_thread(keeper.kill)
            await asyncio.Event().wait()

    async with asyncio.timeout(3 * WITHIN_S):
        try:
            with pytest.raises(LockLost):
                await work()
        finally:
            await asyncio.to_thread(keeper.restart)


async def test_when_the_leader_goes_another_candidate_leads_with_a_higher_token(
    locks: Locks, others: Locks, name: str
) -> None:
    terms: list[tuple[str, int]] = []
    changed = asyncio.Condition()

    async def campaign(candidate: str, through: Locks) -> None:
        async def lead(grasp: Grasp) -> None:
            async with changed:
                terms.append((candidate, grasp.token))
                changed.notify_all()
            await asyncio.Event().wait()

        random = Random(candidate)
        await stand(through, name, candidate, ttl_s=LONG_S, lead=lead, clock=CLOCK, random=random)

    async with asyncio.timeout(2 * WITHIN_S):
        first = asyncio.create_task(campaign("first", locks))
        async with changed:
            await changed.wait_for(lambda: len(terms) == 1)
        second = asyncio.create_task(campaign("second", others))
        first.cancel()
        await asyncio.wait([first])
        async with changed:
            await changed.wait_for(lambda: len(terms) == 2)
        second.cancel()
        await asyncio.wait([second])
    assert [candidate for candidate, _ in terms] == ["first", "second"]
    assert terms[0][1] < terms[1][1]
    assert await locks.holder(name) is None


async def test_bad_names_and_times_are_refused(locks: Locks, name: str) -> None:
    for bad in ("", "a b", "a/b", ".a", "a" * 101, "ä"):
        with pytest.raises(InvalidInput):
            await locks.acquire(bad, "me", ttl_s=LONG_S)
        with pytest.raises(InvalidInput):
            await locks.acquire(name, bad, ttl_s=LONG_S)
    for ttl_s in (0.0, -1.0, 1e9, float("nan")):
        with pytest.raises(InvalidInput):
            await locks.acquire(name, "me", ttl_s=ttl_s)
    assert await locks.holder(name) is None


def bed(keeper: Keeper, dsn: str, name: str, holder: str) -> Bed:
    """A holder that looks at the fence, of a number that is made here."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(DDL.encode())
        conn.execute("INSERT INTO fenced VALUES (%s, 0) ON CONFLICT DO NOTHING", (name,))
    return Bed(keeper.address, dsn, name, holder, keeper.short_s, is_fenced=True)


def test_a_frozen_holder_loses_the_lock_and_what_it_protects_refuses_it(
    keeper: Keeper, module_database_dsn: str, name: str
) -> None:
    """L1 to L3, F2: the successor's token is higher; the woken one may renew and write no more."""
    with (
        LockWorker(bed(keeper, module_database_dsn, name, "frozen")) as frozen,
        LockWorker(bed(keeper, module_database_dsn, name, "next")) as following,
    ):
        first = frozen.ask("take")
        frozen.pause()
        second = following.ask("take")
        assert (first["value"], second["value"]) == (0, 0)
        assert first["token"] < second["token"]
        frozen.tell("write")
        frozen.resume()
        assert frozen.answer() == {"written": False}
        assert frozen.ask("renew") == {"lost": True}
        assert frozen.ask("release") == {"released": True}
        assert following.ask("write") == {"written": True}


def test_the_lock_of_a_killed_holder_is_free_after_its_lease(
    keeper: Keeper, module_database_dsn: str, name: str
) -> None:
    with LockWorker(bed(keeper, module_database_dsn, name, "next")) as following:
        with LockWorker(bed(keeper, module_database_dsn, name, "killed")) as killed:
            first = killed.ask("take")
        assert first["token"] < following.ask("take")["token"]
