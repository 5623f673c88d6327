"""Claims about a table partitioned by time, on a real server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import AsyncConnection

from month2_databases.partitioning import Cadence, PartitionedTable, Policy, Span
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.postgres_errors import SerializationFailure
from scalelab.errors import Conflict, InvalidInput, NotFound

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
POLICY = Policy(Cadence.MONTH, ahead=1, keep=1)
OCTOBER, NOVEMBER, DECEMBER = (
    Cadence.MONTH.span_of(datetime(2026, month, 1, tzinfo=UTC)) for month in (10, 11, 12)
)
_numbers = itertools.count(1)


class Bed:
    """One table of its own in the module's database, and a plain connection beside."""

    def __init__(self, database: Database, conn: AsyncConnection, name: str) -> None:
        self.database, self.conn, self.name = database, conn, name

    def table(self, policy: Policy = POLICY, *, lock_wait_s: float = 10.0) -> PartitionedTable:
        return PartitionedTable(self.database, self.name, policy, lock_wait_s=lock_wait_s)

    async def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """A statement with `{t}` for the table; its rows."""
        text = statement.replace("{t}", self.name)
        cursor = await self.conn.execute(text.encode(), values, prepare=False)
        return await cursor.fetchall() if cursor.description else []

    async def put(self, *instants: datetime) -> None:
        for number, instant in enumerate(instants):
            await self.run("INSERT INTO {t} VALUES (%s, %s)", number, instant)

    async def partitions(self) -> tuple[str, ...]:
        layout = await self.table().layout()
        return tuple(one.name.removeprefix(f"{self.name}_p") for one in layout.partitions)


@pytest.fixture
async def bed(module_database_dsn: str) -> AsyncIterator[Bed]:
    """An empty partitioned table `(id, at)` without partitions."""
    name = f"sale{next(_numbers)}"
    settings = PostgresSettings(module_database_dsn, statement_timeout_s=60.0)
    async with (
        Database(settings, name="partitions") as database,
        await AsyncConnection.connect(module_database_dsn, autocommit=True) as conn,
    ):
        bed = Bed(database, conn, name)
        await bed.run(
            "CREATE TABLE {t} (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at))"
            " PARTITION BY RANGE (at)"
        )
        yield bed


async def test_what_is_needed_is_made_once(bed: Bed) -> None:
    """The present month and one ahead; a second visit finds nothing to do."""
    table = bed.table()
    first = await table.maintain(NOW)
    assert first.created == (f"{bed.name}_p20261101", f"{bed.name}_p20261201")
    assert (await table.maintain(NOW)).created == ()
    await bed.put(NOW, datetime(2026, 12, 31, 23, 59, tzinfo=UTC))


async def test_retention_drops_whole_months_and_nothing_younger(bed: Bed) -> None:
    """In February the month before is kept; November goes with its rows."""
    table = bed.table()
    await table.maintain(NOW)
    await bed.put(NOW, DECEMBER.begin)
    report = await table.maintain(datetime(2027, 1, 15, tzinfo=UTC))
    assert report.dropped == (f"{bed.name}_p20261101",)
    assert await bed.partitions() == ("20261201", "20270101", "20270201")
    assert await bed.run("SELECT count(*)::int FROM {t}") == [(1,)]


async def test_a_row_without_a_partition_is_refused_where_there_is_no_default(bed: Bed) -> None:
    """The insert fails; nothing is stored."""
    await bed.table().maintain(NOW)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        await bed.put(datetime(2030, 1, 1, tzinfo=UTC))


async def test_partitions_come_and_go_while_a_writer_is_in_the_middle(bed: Bed) -> None:
    """Its transaction has written and is open; neither waits for the other."""
    table = bed.table(lock_wait_s=5.0)
    await table.maintain(NOW)
    async with bed.conn.transaction():
        await bed.put(NOW)
        await table.create(OCTOBER)
        await bed.put(datetime(2026, 10, 3, tzinfo=UTC))
    assert await bed.run("SELECT count(*)::int FROM {t}") == [(2,)]


class Telling(Database):
    """Keeps what the server says to its own sessions at DEBUG1."""

    said: list[str]

    @asynccontextmanager
    async def dedicated(self) -> AsyncGenerator[AsyncConnection, None]:
        self.said = []
        async with super().dedicated() as conn:
            conn.add_notice_handler(lambda one: self.said.append(one.message_primary or ""))
            await conn.execute("SET client_min_messages = debug1")
            yield conn


async def fill(bed: Bed, name: str, rows: int = 1000) -> None:
    """A table like the partitioned one, with a row a minute from the first of October on."""
    await bed.run(f"CREATE TABLE {name} (LIKE {{t}} INCLUDING ALL)")
    await bed.run(
        f"INSERT INTO {name} SELECT n, timestamptz '2026-10-01Z' + n * interval '1 minute'"
        f" FROM generate_series(1, {rows}) n"
    )


async def test_a_filled_table_is_attached_without_being_read_under_the_lock(
    bed: Bed, module_database_dsn: str
) -> None:
    """The server says that it reads the rows to prove the CHECK, and then believes it."""
    await fill(bed, f"{bed.name}_load")
    async with Telling(PostgresSettings(module_database_dsn), name="telling") as telling:
        await PartitionedTable(telling, bed.name, POLICY).adopt(f"{bed.name}_load", OCTOBER)
    read, believed = (
        next(at for at, line in enumerate(telling.said) if words in line)
        for words in ("verifying table", "is implied by existing constraints")
    )
    assert read < believed
    assert not any("verifying table" in line for line in telling.said[believed:])
    assert await bed.run("SELECT count(*)::int FROM {t}") == [(1000,)]
    checks = "SELECT FROM pg_constraint WHERE conrelid = '{t}_load'::regclass AND contype = 'c'"
    assert await bed.run(checks) == []


async def test_a_filled_table_with_a_row_outside_its_span_stays_as_it_was(bed: Bed) -> None:
    """Refused by the CHECK, which goes again; a second try says the same."""
    await fill(bed, f"{bed.name}_load", 60 * 24 * 31)  # the last row is in November
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            await bed.table().adopt(f"{bed.name}_load", OCTOBER)
        assert refused.value.stable_code == "check_violation"
    assert await bed.partitions() == ()
    await bed.run("INSERT INTO {t}_load VALUES (0, '2020-01-01Z')")


async def test_bounds_that_overlap_are_refused_and_change_nothing(bed: Bed) -> None:
    """Made or adopted."""
    table = bed.table()
    await table.maintain(NOW)
    await fill(bed, f"{bed.name}_load")
    half = Span(datetime(2026, 10, 15, tzinfo=UTC), datetime(2026, 11, 15, tzinfo=UTC))
    for claim in (table.create(half), table.create(NOVEMBER), table.adopt("x", half)):
        with pytest.raises(InvalidInput) as refused:
            await claim
        assert refused.value.stable_code == "overlapping_bounds"
    assert await bed.partitions() == ("20261101", "20261201")


async def test_rows_of_the_default_partition_get_the_partitions_they_lack(bed: Bed) -> None:
    """Two months, three rows; all are found where they belong, and the default is empty."""
    await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    table = bed.table()
    await table.maintain(NOW)
    later = [datetime(2027, month, 3, tzinfo=UTC) for month in (2, 2, 4)]
    await bed.put(NOW, *later)
    assert (await table.maintain(NOW)).stranded == 3
    assert await table.empty_default() == 3
    assert await bed.partitions() == ("20261101", "20261201", "20270201", "20270401")
    assert await bed.run("SELECT count(*)::int FROM {t}_p20270201") == [(2,)]
    assert await bed.run("SELECT count(*)::int FROM {t}_rest") == [(0,)]
    assert await table.empty_default() == 0


async def test_a_partition_takes_its_rows_out_of_the_default_when_it_is_made(bed: Bed) -> None:
    """Maintenance came too late; ATTACH alone would have refused."""
    await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    await bed.put(NOW)
    report = await bed.table().maintain(NOW)
    assert (len(report.created), report.stranded) == (2, 0)
    assert await bed.run("SELECT tableoid::regclass::text FROM {t}") == [(report.created[0],)]


async def test_a_default_partition_with_too_many_rows_is_not_emptied(bed: Bed) -> None:
    """Its writers would wait for too long."""
    await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    await bed.put(NOW, NOW, NOW)
    with pytest.raises(Conflict) as refused:
        await bed.table().empty_default(most_rows=2)
    assert refused.value.stable_code == "default_too_full"
    assert await bed.partitions() == ()


async def test_who_reads_the_default_holds_up_a_new_partition_only_until_the_lock_time_out(
    bed: Bed,
) -> None:
    """lock_timeout, nothing changed; the queue behind it does not form."""
    await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    async with bed.conn.transaction():
        await bed.run("SELECT * FROM {t}_rest")
        with pytest.raises(SerializationFailure) as refused:
            await bed.table(lock_wait_s=0.1).create(NOVEMBER)
    assert refused.value.stable_code == "lock_timeout"
    assert await bed.partitions() == ()
    await bed.table().create(NOVEMBER)


async def test_with_a_default_partition_retention_detaches_under_a_lock(bed: Bed) -> None:
    """PostgreSQL cannot do it concurrently then; a reader in the middle is in the way."""
    await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    await bed.table().maintain(NOW)
    async with bed.conn.transaction():
        await bed.run("SELECT * FROM {t}")
        with pytest.raises(SerializationFailure):
            await bed.table(lock_wait_s=0.1).detach(f"{bed.name}_p20261101")
    await bed.table().detach(f"{bed.name}_p20261101")
    assert await bed.partitions() == ("20261201",)


async def test_a_detach_that_was_cut_off_is_finished_by_the_next_maintenance(bed: Bed) -> None:
    """It waited for a reader and gave up; until then nobody else is held up."""
    table = bed.table()
    await table.maintain(NOW)
    await bed.put(NOW)
    async with bed.conn.transaction():
        await bed.run("SELECT * FROM {t}")
        with pytest.raises(SerializationFailure):
            await bed.table(lock_wait_s=0.1).detach(f"{bed.name}_p20261101")
        layout = await table.layout()
        assert layout.pending == f"{bed.name}_p20261101"
        await bed.run("SELECT * FROM {t}")
    await table.maintain(datetime(2026, 12, 1, tzinfo=UTC))
    layout = await table.layout()
    assert (layout.pending, len(layout.partitions)) == (None, 2)
    assert await bed.run("SELECT count(*)::int FROM {t}_p20261101") == [(1,)]


async def test_what_retention_detached_before_it_died_is_dropped_by_the_next(bed: Bed) -> None:
    """Marked and detached, not yet dropped. What a person detaches stays, marked or not."""
    table = bed.table()
    for month in (8, 9, 10):
        await table.create(Cadence.MONTH.span_of(datetime(2026, month, 1, tzinfo=UTC)))
    for month in ("08", "09"):
        await bed.run(f"COMMENT ON TABLE {{t}}_p2026{month}01 IS 'retired: to be dropped'")
    await table.detach(f"{bed.name}_p20260801")
    await bed.run("ALTER TABLE {t} DETACH PARTITION {t}_p20260901")
    assert (await table.maintain(NOW)).dropped == (f"{bed.name}_p20260901",)
    assert await bed.run("SELECT count(*)::int FROM {t}_p20260801") == [(0,)]


@pytest.mark.parametrize("default", [True, False])
async def test_a_partition_whose_rows_are_referenced_stays(bed: Bed, *, default: bool) -> None:
    """Asked for it is a Conflict; retention drops the others and names it."""
    if default:
        await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    table = bed.table(Policy(Cadence.MONTH, ahead=1, keep=0))
    for span in (OCTOBER, NOVEMBER):
        await table.create(span)
    await bed.run(
        "CREATE TABLE {t}_line (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES {t})"
    )
    await bed.put(datetime(2026, 10, 3, tzinfo=UTC), NOW)
    await bed.run("INSERT INTO {t}_line SELECT * FROM {t} WHERE at < '2026-11-01Z'")
    with pytest.raises(Conflict) as refused:
        await table.detach(f"{bed.name}_p20261001")
    assert refused.value.stable_code == "foreign_key_violation"
    report = await table.maintain(DECEMBER.begin)
    assert report.held == (f"{bed.name}_p20261001",)
    assert report.dropped == (f"{bed.name}_p20261101",)
    await bed.run("DELETE FROM {t}_line")
    assert (await table.maintain(DECEMBER.begin)).dropped == (f"{bed.name}_p20261001",)


async def test_referenced_rows_do_not_leave_the_default_partition(bed: Bed) -> None:
    """The server would see the reference broken, even if it may be checked late: a Conflict."""
    await bed.run("CREATE TABLE {t}_rest PARTITION OF {t} DEFAULT")
    await bed.run(
        "CREATE TABLE {t}_line (id bigint, at timestamptz,"
        " FOREIGN KEY (id, at) REFERENCES {t} DEFERRABLE INITIALLY DEFERRED)"
    )
    await bed.put(NOW)
    await bed.run("INSERT INTO {t}_line SELECT * FROM {t}")
    with pytest.raises(Conflict) as refused:
        await bed.table().empty_default()
    assert refused.value.stable_code == "foreign_key_violation"
    assert await bed.partitions() == ()
    assert await bed.run("SELECT count(*)::int FROM {t}_rest") == [(1,)]


async def test_two_maintenances_do_not_meet(bed: Bed) -> None:
    """The second is told so; whoever comes later finds all done."""
    name = f"partitions {bed.name}"
    async with bed.conn.transaction():
        await bed.run("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", name)
        with pytest.raises(Conflict) as refused:
            await bed.table().maintain(NOW)
        assert refused.value.stable_code == "maintenance_running"
    both = await asyncio.gather(
        *(bed.table().maintain(NOW) for _ in range(2)), return_exceptions=True
    )
    assert any(not isinstance(one, BaseException) for one in both)
    assert await bed.partitions() == ("20261101", "20261201")


async def test_a_name_that_a_table_has_already_is_a_conflict(bed: Bed) -> None:
    """Somebody detached it and kept it; making a new one would hide its rows."""
    table = bed.table()
    await table.maintain(NOW)
    await table.detach(f"{bed.name}_p20261201")
    with pytest.raises(Conflict) as refused:
        await table.maintain(NOW)
    assert refused.value.stable_code == "name_taken"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "not_partitioned"),
        ("LIST (at)", "foreign_bounds"),
        ("RANGE (id)", "foreign_bounds"),
        ("RANGE (at, id)", "foreign_bounds"),
    ],
)
async def test_a_table_of_another_kind_is_refused(bed: Bed, key: str | None, code: str) -> None:
    """Not partitioned, by list, by a number, by two columns."""
    name = f"{bed.name}_other"
    await bed.run(
        f"CREATE TABLE {name} (id bigint, at timestamptz)" + (f" PARTITION BY {key}" if key else "")
    )
    with pytest.raises((NotFound, InvalidInput)) as refused:
        await PartitionedTable(bed.database, name, POLICY).maintain(NOW)
    assert refused.value.stable_code == code


async def test_a_partition_that_is_not_there_is_not_found(bed: Bed) -> None:
    """Nothing is detached."""
    with pytest.raises(NotFound):
        await bed.table().detach("nowhere")
