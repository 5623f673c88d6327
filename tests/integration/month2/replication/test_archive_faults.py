"""The archive and the disk: what does not fit is told, and nothing is lost in silence."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from month2_databases.replication import (
    ArchiveTrouble,
    judge_archiver,
    read_archiver,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import OutcomeUnknown, Unavailable
from tests.fixtures.small_disks import fill_up

if TYPE_CHECKING:
    from month2_databases.experiments.replicated import Replicated

Wait = Callable[..., Awaitable[None]]
FAST = {"fsync": "off", "full_page_writes": "off"}


@pytest.fixture(scope="module")
def archived(server_root: Path) -> Iterator[Replicated]:
    """A primary alone, with an archive."""
    from month2_databases.experiments.replicated import start_replicated
    from scalelab.lab.runtime import Runtime

    with Runtime(server_root / "archived", private=True) as runtime:
        yield start_replicated(runtime, "archived", replicas=0, settings=FAST, archive=True)


async def troubles(archived: Replicated) -> list[ArchiveTrouble]:
    dsn = archived.cluster.primary.superuser_dsn()
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        return [alert.trouble for alert in judge_archiver(await read_archiver(conn), waiting_max=2)]


def begun_segment(archived: Replicated) -> str:
    """Write a little, and say the name of the segment it went to."""
    archived.cluster.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
    # At its very beginning a segment has the name of the one before; now it is behind that.
    return str(archived.cluster.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())"))


def finish_segment(archived: Replicated) -> str:
    """Write a little, end the segment, and say its name."""
    name = begun_segment(archived)
    archived.cluster.execute("SELECT pg_switch_wal()")
    return name


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


async def test_an_archive_that_takes_nothing_is_told_and_loses_nothing(
    archived: Replicated, wait_until: Wait
) -> None:
    """Unwritable, then repaired: every segment that was finished meanwhile arrives, whole."""
    folder = archived.cluster.archive
    assert folder is not None
    first = finish_segment(archived)
    await wait_until(lambda: first in names_of(folder), what="a segment in the archive")
    assert await troubles(archived) == []

    folder.chmod(0o500)
    try:
        finished = [finish_segment(archived) for _ in range(4)]

        async def told() -> bool:
            return await troubles(archived) == [ArchiveTrouble.FAILING, ArchiveTrouble.BEHIND]

        await wait_until(told, what="failing, and behind")
        assert not names_of(folder) & set(finished)
    finally:
        folder.chmod(0o700)
    finished.append(finish_segment(archived))  # the server tries again when a segment ends

    async def all_well() -> bool:
        return set(finished) <= names_of(folder) and await troubles(archived) == []

    await wait_until(all_well, what="everything arrived")
    assert {path.stat().st_size for path in folder.iterdir()} == {16 << 20}


async def test_an_archived_segment_is_never_overwritten_by_another(
    archived: Replicated, wait_until: Wait
) -> None:
    """Somebody else's file under the name: refused and told. The same bytes: accepted."""
    folder = archived.cluster.archive
    assert folder is not None
    intruder = folder / begun_segment(archived)
    intruder.write_bytes(b"another cluster's segment")
    intruder.chmod(0o644)
    try:
        finish_segment(archived)

        async def told() -> bool:
            return ArchiveTrouble.FAILING in await troubles(archived)

        await wait_until(told, what="failing")
        assert intruder.read_bytes() == b"another cluster's segment"
    finally:
        intruder.unlink()
    finish_segment(archived)

    async def all_well() -> bool:
        return await troubles(archived) == []

    await wait_until(all_well, what="archived after all")


async def test_a_full_disk_refuses_writes_and_keeps_what_was_acknowledged(
    small_disk: Callable[[int], Path], server_root: Path
) -> None:
    """Full: writes fail as such and reads go on or say so. Room again: every acknowledged row."""
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres

    disk = small_disk(160)
    settings = {"min_wal_size": "32MB", "max_wal_size": "48MB", "shared_buffers": "8MB"}
    with Runtime(server_root / f"full-{uuid.uuid4().hex[:8]}", private=True) as runtime:
        server = Postgres("full", data_dir=disk / "data", settings=settings)
        await asyncio.to_thread(runtime.start, server)
        dsn = await asyncio.to_thread(server.ensure_database, "notes", "notes")
        acknowledged: list[int] = []
        async with Database(PostgresSettings(dsn, pool_max=1), name="full") as database:
            async with database.transaction() as conn:
                await conn.execute("CREATE TABLE note (v int PRIMARY KEY, filler text)")
                # Incompressible rows, so that they take the room they say.
                await conn.execute("ALTER TABLE note ALTER filler SET STORAGE EXTERNAL")
            ballast = fill_up(disk, leave_bytes=8 << 20)
            told = await write_until_refused(database, acknowledged)
        assert told.retryable
        ballast.unlink()
        await asyncio.to_thread(runtime.restart, "full")
        with psycopg.connect(server.superuser_dsn("notes"), autocommit=True) as connection:
            found = {row[0] for row in connection.execute("SELECT v FROM note")}
            connection.execute("INSERT INTO note VALUES (-1, 'room again')")
        assert set(acknowledged) <= found


async def write_until_refused(database: Database, acknowledged: list[int]) -> Any:
    """Write rows until one is refused; gives that error."""
    for value in range(10_000):
        try:
            async with database.transaction() as conn:
                await conn.execute("INSERT INTO note VALUES (%s, repeat('x', 200000))", (value,))
        except (Unavailable, OutcomeUnknown) as error:
            return error
        acknowledged.append(value)
    pytest.fail("the disk never filled")
