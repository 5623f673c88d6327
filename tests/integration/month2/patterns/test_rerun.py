"""Whole transactions run again: exactly once, bounded, and never after an unknown outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

import psycopg
import pytest

from month2_databases.patterns import Isolation, Statement, Steps, Transactions, Work
from scalelab.clients.postgres import Database
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.errors import Conflict, InvalidInput, ScalelabError
from scalelab.resilience.backoff import Backoff, BudgetPolicy
from scalelab.resilience.retry import RetryPolicy

PURSES = (
    "CREATE TABLE purse (id int PRIMARY KEY, cents int NOT NULL CHECK (cents >= 0));"
    "INSERT INTO purse VALUES (1, 100), (2, 100)"
)
PATIENT = RetryPolicy(attempts=50, budget=BudgetPolicy(ratio=50.0, reserve=1000.0))


@pytest.fixture(autouse=True)
async def purses(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(PURSES, prepare=False)


async def _cents(database: Database) -> list[int]:
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute("SELECT cents FROM purse ORDER BY id")
        return [row[0] for row in await cursor.fetchall()]


def _pay(cents: int, *, pause_s: float = 0.0) -> Work[int]:
    """Read, think, write what was thought: a lost update wherever nobody looks."""

    def steps() -> Steps[int]:
        held = yield Statement("SELECT cents FROM purse WHERE id = 1")
        yield Statement("SELECT pg_sleep(%s)", (pause_s,))
        left = held.rows[0][0] - cents
        yield Statement("UPDATE purse SET cents = %s WHERE id = 1", (left,))
        return left

    return steps


class Crossed:
    """A payment that loses its first tries: a rival changes the purse after it was read."""

    def __init__(self, rival: psycopg.Connection, *, loses: int) -> None:
        self._rival = rival
        self._loses = loses
        self.tries = 0

    def work(self) -> Steps[int]:
        self.tries += 1
        held = yield Statement("SELECT cents FROM purse WHERE id = 1")
        if self.tries <= self._loses:
            self._rival.execute("UPDATE purse SET cents = cents - 1 WHERE id = 1")
        left = held.rows[0][0] - 5
        yield Statement("UPDATE purse SET cents = %s WHERE id = 1", (left,))
        return left


@pytest.fixture
def rival(database_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_dsn, autocommit=True) as conn:
        yield conn


class Pauses:
    """Stands for sleeping, and writes down how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)


async def test_work_at_once_takes_effect_once_each(database: Database) -> None:
    """R1: six payments of 5 that read before they write; none is lost."""
    transactions = Transactions(database, random=Random(1), policy=PATIENT)
    done = await asyncio.gather(*(transactions.run(_pay(5, pause_s=0.02)) for _ in range(6)))
    assert (await _cents(database))[0] == 100 - 6 * 5
    assert sorted(one.answer for one in done) == [70, 75, 80, 85, 90, 95]


async def test_two_who_wait_for_each_other_both_end(database: Database) -> None:
    """40P01: one is rolled back, and pays when the other has."""

    def between(first: int, second: int) -> Work[None]:
        def steps() -> Steps[None]:
            yield Statement("UPDATE purse SET cents = cents - 10 WHERE id = %s", (first,))
            yield Statement("SELECT pg_sleep(0.05)")
            yield Statement("UPDATE purse SET cents = cents + 10 WHERE id = %s", (second,))

        return steps

    transactions = Transactions(database, random=Random(1), policy=PATIENT)
    level = Isolation.READ_COMMITTED
    await asyncio.gather(
        transactions.run(between(1, 2), isolation=level),
        transactions.run(between(2, 1), isolation=level),
    )
    assert await _cents(database) == [100, 100]


async def test_a_try_sees_what_the_one_before_lost_to(
    database: Database, rival: psycopg.Connection
) -> None:
    """R2: three tries lose to a rival who takes one cent each time; the fourth pays from 97."""
    crossed, pauses = Crossed(rival, loses=3), Pauses()
    transactions = Transactions(database, random=Random(1), policy=PATIENT, sleep=pauses.sleep)
    done = await transactions.run(crossed.work)
    assert (done.answer, done.tries) == (92, 4)
    assert await _cents(database) == [92, 100]


async def test_pauses_are_random_below_a_ceiling_that_doubles(
    database: Database, rival: psycopg.Connection
) -> None:
    """Full jitter: those who failed together do not come back together."""
    policy = RetryPolicy(50, Backoff(0.05, 2.0, 0.15), PATIENT.budget)
    pauses = Pauses()
    transactions = Transactions(database, random=Random(3), policy=policy, sleep=pauses.sleep)
    await transactions.run(Crossed(rival, loses=4).work)
    random = Random(3)
    assert pauses.slept == [ceiling * random.random() for ceiling in (0.05, 0.1, 0.15, 0.15)]


async def test_tries_are_bounded_and_the_last_error_is_told(
    database: Database, rival: psycopg.Connection
) -> None:
    """Three tries, two pauses, nothing changed by this work."""
    crossed, pauses = Crossed(rival, loses=99), Pauses()
    policy = RetryPolicy(attempts=3)
    transactions = Transactions(database, random=Random(1), policy=policy, sleep=pauses.sleep)
    with pytest.raises(SerializationFailure):
        await transactions.run(crossed.work)
    assert (crossed.tries, len(pauses.slept)) == (3, 2)
    assert await _cents(database) == [97, 100]


async def test_reruns_of_all_works_share_one_budget(
    database: Database, rival: psycopg.Connection
) -> None:
    """Two reruns in the purse: the first work takes both, the second one gets none."""
    policy = RetryPolicy(attempts=50, budget=BudgetPolicy(ratio=0.0, reserve=2.0))
    pauses = Pauses()
    transactions = Transactions(database, random=Random(1), policy=policy, sleep=pauses.sleep)
    tries: list[int] = []
    for _ in range(2):
        crossed = Crossed(rival, loses=99)
        with pytest.raises(SerializationFailure):
            await transactions.run(crossed.work)
        tries.append(crossed.tries)
    assert tries == [3, 1]


async def test_at_the_default_level_the_same_work_loses_an_update(
    database: Database, rival: psycopg.Connection
) -> None:
    """READ COMMITTED runs nothing again, because it notices nothing: the rival's cent is gone."""
    transactions = Transactions(database, random=Random(1))
    done = await transactions.run(Crossed(rival, loses=1).work, isolation=Isolation.READ_COMMITTED)
    assert (done.tries, await _cents(database)) == (1, [95, 100])


async def test_a_refused_work_leaves_nothing(database: Database) -> None:
    """R3: it yields what is no statement, after one that wrote."""

    def steps() -> Steps[None]:
        yield Statement("UPDATE purse SET cents = 0 WHERE id = 1")
        yield "UPDATE purse SET cents = 0 WHERE id = 2"  # type: ignore[misc]

    with pytest.raises(InvalidInput):
        await Transactions(database, random=Random(1)).run(steps)
    assert await _cents(database) == [100, 100]


async def test_two_statements_in_one_text_are_refused_by_the_server(database: Database) -> None:
    """U2: a COMMIT that hides behind another statement commits nothing."""

    def steps() -> Steps[None]:
        yield Statement("UPDATE purse SET cents = 0 WHERE id = 1; COMMIT")

    with pytest.raises(ScalelabError, match="multiple commands"):
        await Transactions(database, random=Random(1)).run(steps)
    assert await _cents(database) == [100, 100]


async def test_a_broken_constraint_is_not_run_again(database: Database) -> None:
    """It would be broken the next time too; the work is closed, and not told."""
    tries = 0

    def steps() -> Steps[None]:
        nonlocal tries
        tries += 1
        yield Statement("UPDATE purse SET cents = -1 WHERE id = 1")

    with pytest.raises(Conflict):
        await Transactions(database, random=Random(1)).run(steps)
    assert tries == 1
