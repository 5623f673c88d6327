"""The PostgreSQL client: what is committed, what is not, and what nobody can know."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest

from scalelab.clients.postgres import CommitPosition, Database, PostgresSettings, cut_off_after
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.errors import (
    Conflict,
    DeadlineExceeded,
    InvariantBroken,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)

Work = Callable[[psycopg.AsyncConnection], Awaitable[object]]


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Database]:
    settings = PostgresSettings(database_dsn, pool_max=3, acquire_timeout_s=1.0)
    async with Database(settings, name="test") as opened:
        async with opened.autocommit() as conn:
            await conn.execute("CREATE TABLE note (k text PRIMARY KEY, v int CHECK (v >= 0))")
        yield opened


async def run(database: Database, *statements: str, timeout_s: float | None = None) -> None:
    async with database.transaction(timeout_s=timeout_s) as conn:
        for statement in statements:
            await conn.execute(statement.encode())


async def keys(database: Database) -> list[str]:
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute("SELECT k FROM note ORDER BY k")
        return [row[0] for row in await cursor.fetchall()]


async def test_a_block_that_ends_is_committed_and_one_that_raises_is_not(
    database: Database,
) -> None:
    """G2: nothing of the failed block remains."""
    await run(database, "INSERT INTO note VALUES ('kept', 1)")
    with pytest.raises(ScalelabError):
        await run(database, "INSERT INTO note VALUES ('lost', 1)", "SELECT nonsense")
    assert await keys(database) == ["kept"]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("INSERT INTO note VALUES ('a', 1), ('a', 2)", "unique_violation"),
        ("INSERT INTO note VALUES ('b', -1)", "check_violation"),
    ],
)
async def test_a_broken_constraint_is_a_conflict_with_its_cause(
    database: Database, statement: str, code: str
) -> None:
    """The driver's error stays reachable, for the name of the constraint."""
    with pytest.raises(Conflict) as refusal:
        await run(database, statement)
    assert refusal.value.stable_code == code
    assert isinstance(refusal.value.__cause__, psycopg.errors.IntegrityError)


async def test_a_swallowed_failure_does_not_commit_in_silence(database: Database) -> None:
    """G4: COMMIT of a failed transaction is a ROLLBACK that reports success."""

    async def swallow() -> None:
        async with database.transaction() as conn:
            await conn.execute("INSERT INTO note VALUES ('gone', 1)")
            with contextlib.suppress(psycopg.Error):
                await conn.execute("SELECT 1/0")

    with pytest.raises(InvariantBroken):
        await swallow()
    assert await keys(database) == []


async def test_a_savepoint_inside_the_block_is_the_callers_own(database: Database) -> None:
    """`conn.transaction()` nests; its failure leaves the outer one usable."""
    async with database.transaction() as conn:
        await conn.execute("INSERT INTO note VALUES ('outer', 1)")
        with pytest.raises(psycopg.errors.CheckViolation):
            async with conn.transaction():
                await conn.execute("INSERT INTO note VALUES ('inner', -1)")
    assert await keys(database) == ["outer"]


async def test_a_slow_statement_ends_at_the_deadline_and_changes_nothing(
    database: Database,
) -> None:
    """The client's deadline, for a server that does not answer at all."""
    with pytest.raises(DeadlineExceeded):
        await run(
            database, "INSERT INTO note VALUES ('x', 1)", "SELECT pg_sleep(60)", timeout_s=0.2
        )
    assert await keys(database) == []


async def test_the_servers_own_time_out_is_a_deadline_too(database_dsn: str) -> None:
    """statement_timeout cancels the statement; the connection goes on."""
    settings = PostgresSettings(database_dsn, statement_timeout_s=0.1)
    async with Database(settings, name="test") as database:
        with pytest.raises(DeadlineExceeded):
            await run(database, "SELECT pg_sleep(60)")
        await database.ping()


async def test_a_client_that_stands_still_holds_no_lock_beyond_its_deadline(
    database: Database, database_dsn: str
) -> None:
    """A frozen process cuts nothing off by itself, so the server ends its idle transaction."""
    settings = PostgresSettings(database_dsn, transaction_timeout_s=0.3)
    async with Database(settings, name="frozen") as frozen:

        async def stand_still() -> None:
            async with frozen.transaction(timeout_s=60.0) as conn:
                await conn.execute("INSERT INTO note VALUES ('x', 1)")
                # Waits for the row above; with no end to the idle transaction, for ever.
                await run(database, "INSERT INTO note VALUES ('x', 2)", timeout_s=30.0)
                await conn.execute("SELECT 1")

        with pytest.raises(Unavailable):
            await stand_still()
    assert await keys(database) == ["x"]


SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON note
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()
"""


async def backend_in_commit(database: Database) -> int:
    """The process id of the backend that executes COMMIT now; waits for one."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        async with database.autocommit(read_only=True) as conn:
            cursor = await conn.execute(
                "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
                " AND datname = current_database()"
            )
            row = await cursor.fetchone()
        if row is not None:
            return row[0]
        await asyncio.sleep(0.01)
    pytest.fail("no backend came to its COMMIT")


async def test_a_deadline_inside_commit_leaves_the_outcome_unknown(database: Database) -> None:
    """G3: the server may or may not have committed."""
    await run(database, SLOW_COMMIT)
    with pytest.raises(OutcomeUnknown):
        await run(database, "INSERT INTO note VALUES ('x', 1)", timeout_s=0.3)


async def test_a_connection_lost_inside_commit_leaves_the_outcome_unknown(
    database: Database,
) -> None:
    """G3: the backend dies in COMMIT; this is never reported as "nothing happened"."""
    await run(database, SLOW_COMMIT)
    writing = asyncio.create_task(run(database, "INSERT INTO note VALUES ('x', 1)"))
    pid = await backend_in_commit(database)
    async with database.autocommit() as conn:
        await conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(OutcomeUnknown):
        await writing


async def test_a_cancelled_task_does_not_cancel_its_commit_on_the_server(
    database: Database,
) -> None:
    """A cancel request would end a commit's wait for its replica, and make it look replicated."""
    await run(database, SLOW_COMMIT)
    writing = asyncio.create_task(run(database, "INSERT INTO note VALUES ('x', 1)"))
    pid = await backend_in_commit(database)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await backend_in_commit(database) == pid
    await database.ping()


async def test_connections_that_died_idle_are_replaced_unnoticed(database: Database) -> None:
    """After a restart of the server the first callers get no error."""

    async def hold() -> None:
        async with database.autocommit(read_only=True) as conn:
            await conn.execute("SELECT pg_sleep(0.05)")

    await asyncio.gather(hold(), hold(), hold())
    async with database.dedicated() as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for _ in range(4):
        await run(database, "SELECT 1")


async def test_two_transactions_that_exclude_each_other_say_run_again(database: Database) -> None:
    """A serialization failure is a Conflict that is worth repeating."""
    await run(database, "INSERT INTO note VALUES ('n', 1)")
    level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"

    async def lose() -> None:
        async with database.transaction() as conn:
            await conn.execute(level)
            await conn.execute("SELECT * FROM note")
            await run(database, "UPDATE note SET v = 2")
            await conn.execute("UPDATE note SET v = 3")

    with pytest.raises(SerializationFailure) as refusal:
        await lose()
    assert refusal.value.retryable
    assert refusal.value.stable_code == "serialization_failure"


async def test_a_read_only_transaction_refuses_to_write(database: Database) -> None:
    """Enforced by the server."""
    with pytest.raises(Unavailable) as refusal:
        async with database.transaction(read_only=True) as conn:
            await conn.execute("INSERT INTO note VALUES ('x', 1)")
    assert refusal.value.stable_code == "database_read_only"


async def test_an_exhausted_pool_is_unavailable_and_a_full_queue_overloaded(
    database_dsn: str,
) -> None:
    """Waiting is bounded in time and in number."""
    settings = PostgresSettings(database_dsn, pool_max=1, acquire_timeout_s=0.2, pool_waiting=1)
    async with Database(settings, name="test") as database, database.autocommit():
        results = await asyncio.gather(
            database.ping(), database.ping(), database.ping(), return_exceptions=True
        )
    kinds = {type(result) for result in results}
    assert kinds == {Unavailable, Overloaded}


async def test_a_server_that_is_away_is_unavailable_not_a_failed_start() -> None:
    """G1: entering works; the first use says so."""
    settings = PostgresSettings("postgresql://nobody@127.0.0.1:1/none", acquire_timeout_s=0.2)
    async with Database(settings, name="away") as database:
        with pytest.raises(Unavailable):
            await database.ping()
        with pytest.raises(Unavailable):
            async with database.dedicated():
                pytest.fail("there is no server")


async def test_the_position_of_a_commit_is_at_or_after_its_record(database: Database) -> None:
    """Positions of two commits grow, and the log has reached them."""
    first, second = CommitPosition(), CommitPosition()
    for position, key in ((first, "a"), (second, "b")):
        async with database.transaction(position=position) as conn:
            await conn.execute("INSERT INTO note VALUES (%s, 1)", (key,))
    assert first.lsn is not None
    assert second.lsn is not None
    assert first.lsn < second.lsn
    assert first.timeline == 1
    assert await keys(database) == ["a", "b"]


async def test_a_dedicated_connection_is_cut_off_when_it_hangs(database: Database) -> None:
    """The bound for connections outside the pool."""

    async def hang() -> None:
        async with database.dedicated() as conn:
            with cut_off_after(conn, 0.1):
                await conn.execute("SELECT pg_sleep(60)")

    with pytest.raises(OutcomeUnknown):
        await hang()


async def test_a_lost_bare_statement_is_unknown_unless_it_only_reads(database: Database) -> None:
    """Without a transaction the statement may have committed by itself."""

    async def suicide(*, read_only: bool) -> None:
        async with database.autocommit(read_only=read_only) as conn:
            await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(OutcomeUnknown):
        await suicide(read_only=False)
    with pytest.raises(Unavailable):
        await suicide(read_only=True)
