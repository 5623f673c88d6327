"""Claims about what one update writes to the log, read by pg_waldump on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from month2_databases.indexes import WalSummary, dump, read_records, summarize
from scalelab.errors import CorruptData, InvalidInput
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres

Log = tuple[Postgres, Path, psycopg.Connection[tuple[object, ...]]]


@pytest.fixture(scope="module")
def log(server_root: Path) -> Iterator[Log]:
    """A server that writes full pages, its pg_waldump, and a table with an indexed column."""
    settings = {"fsync": "off", "wal_level": "replica", "autovacuum": "off"}
    with Runtime(server_root / "wal-read", private=True) as runtime:
        server = Postgres("wal-read", settings=settings)
        runtime.start(server)
        with psycopg.connect(server.superuser_dsn(), autocommit=True) as conn:
            row = conn.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
            program = Path(str(row[0] if row else "")) / "pg_waldump"
            conn.execute(
                "CREATE TABLE item (id int PRIMARY KEY, price int, label int)"
                " WITH (fillfactor = 50)"
            )
            conn.execute("CREATE INDEX of_label ON item (label)")
            conn.execute("INSERT INTO item SELECT n, n, n FROM generate_series(1, 100) n")
            yield server, program, conn


async def written(log: Log, statement: str) -> WalSummary:
    """What the statement wrote to the heap and to B-trees."""
    server, program, conn = log
    if not program.exists():
        pytest.skip("not run: this PostgreSQL came without pg_waldump")
    start = _position(conn)
    conn.execute(statement.encode())
    conn.execute("SELECT pg_switch_wal()")  # nothing of it is only in memory
    end = _position(conn, "pg_current_wal_flush_lsn()")
    records = await dump(program, server.data_dir / "pg_wal", start=start, end=end)
    # With checksums on, a page's image may come with its hint bits, just before the record itself.
    wanted = ("Heap", "Btree", "Transaction")
    return summarize(r for r in records if r.manager in wanted or r.images)


def _position(
    conn: psycopg.Connection[tuple[object, ...]], of: str = "pg_current_wal_insert_lsn()"
) -> str:
    row = conn.execute(f"SELECT {of}".encode()).fetchone()
    assert row is not None
    return str(row[0])


async def test_an_update_of_a_column_without_index_is_one_heap_record(log: Log) -> None:
    """HOT: the new row stands on the same page and no index is touched."""
    await written(log, "UPDATE item SET price = 0 WHERE id = 3")  # images are written by now
    found = await written(log, "UPDATE item SET price = 1 WHERE id = 3")
    assert found.kinds == {"Heap/HOT_UPDATE": 1, "Transaction/COMMIT": 1}
    assert found.images == 0


async def test_an_update_of_an_indexed_column_writes_to_every_index(log: Log) -> None:
    """Two entries more: also the primary key's, which did not change."""
    await written(log, "UPDATE item SET label = 1000 WHERE id = 5")
    found = await written(log, "UPDATE item SET label = 1001 WHERE id = 5")
    assert found.kinds["Heap/UPDATE"] == 1
    assert found.kinds["Btree/INSERT_LEAF"] == 2


async def test_the_first_change_after_a_checkpoint_carries_the_whole_page(log: Log) -> None:
    """And the second does not: that is what makes a torn page whole again."""
    log[2].execute("CHECKPOINT")
    first = await written(log, "UPDATE item SET price = 2 WHERE id = 9")
    second = await written(log, "UPDATE item SET price = 3 WHERE id = 9")
    assert (first.images, second.images) == (1, 0)
    assert first.total_bytes > 5 * second.total_bytes


async def test_what_is_no_position_is_refused(log: Log) -> None:
    """It would be an option of the program otherwise."""
    with pytest.raises(InvalidInput):
        await dump(Path("pg_waldump"), Path(), start="--help", end="0/0")


def test_a_line_that_is_no_record_is_named() -> None:
    with pytest.raises(CorruptData):
        read_records("rmgr: Heap and then nothing")
