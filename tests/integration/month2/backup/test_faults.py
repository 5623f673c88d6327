"""Damage to a repository is refused aloud, and a copy leaves its original alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.backup import FolderTool, Target, confirm, ship
from month2_databases.backup.wal_segments import timeline_of
from scalelab.errors import CorruptData, InvalidInput, Unavailable

if TYPE_CHECKING:
    from month2_databases.experiments.recovering import Recovering

pytestmark = pytest.mark.timeout(240)


def tool_of(kept: Recovering) -> FolderTool:
    assert isinstance(kept.tool, FolderTool)
    return kept.tool


def ship_now(kept: Recovering, *, timeout_s: float = 60.0) -> str:
    with psycopg.connect(kept.primary.superuser_dsn(), autocommit=True) as connection:
        return ship(connection, timeout_s=timeout_s)


@contextmanager
def changed(path: Path, data: bytes | None) -> Generator[None]:
    """A file with other bytes, or gone, for a while."""
    before = path.read_bytes()
    try:
        path.unlink() if data is None else path.write_bytes(data)
        yield
    finally:
        path.write_bytes(before)


def flipped(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


def test_a_flipped_bit_in_a_backup_is_refused(kept: Recovering) -> None:
    """The restore leaves nothing behind, and `verify` finds it as well."""
    tool, into = tool_of(kept), kept.into()
    base = tool.repository.root / "backups" / tool.backups()[-1].id / "base.tar"
    with changed(base, flipped(base)):
        with pytest.raises(CorruptData) as refused:
            tool.restore(Target(), into)
        assert refused.value.stable_code == "backup_corrupt"
        assert not into.exists()
        with pytest.raises(CorruptData):
            tool.verify()


def test_a_flipped_bit_in_a_log_segment_is_refused(kept: Recovering) -> None:
    ship_now(kept)
    tool, into = tool_of(kept), kept.into()
    tool.collect()
    segment = tool.repository.root / "wal" / tool.repository.segments()[-1]
    with changed(segment, flipped(segment)), pytest.raises(CorruptData) as refused:
        tool.restore(Target(), into)
    assert refused.value.stable_code == "backup_corrupt"
    assert not into.exists()


def test_a_missing_log_segment_is_refused(kept: Recovering) -> None:
    """PostgreSQL would take the gap for the end of the log and open with less."""
    first = ship_now(kept)
    ship_now(kept)
    tool, into = tool_of(kept), kept.into()
    tool.collect()
    with changed(tool.repository.root / "wal" / first, None):
        with pytest.raises(CorruptData) as refused:
            tool.restore(Target(), into)
        assert refused.value.stable_code == "wal_segment_missing"
        assert first in refused.value.message
        with pytest.raises(CorruptData):
            tool.verify()
    assert not into.exists()


def test_a_segment_lost_while_the_copy_recovers_is_noticed(kept: Recovering) -> None:
    """The check of what was reached does not rely on the check beforehand."""
    ship_now(kept)
    ship_now(kept)
    prepared = tool_of(kept).restore(Target(), kept.into())
    assert prepared.wal is not None
    for path in sorted(prepared.wal.iterdir())[-2:]:
        path.unlink()
    with kept.start_copy(prepared) as copy, pytest.raises(CorruptData) as refused:
        confirm(copy, prepared)
    assert refused.value.stable_code == "restore_stopped_short"


@pytest.mark.parametrize(
    ("away", "code"),
    [
        (timedelta(days=-1), "target_before_first_backup"),
        (timedelta(days=1), "target_in_future"),
    ],
)
def test_a_time_that_cannot_be_restored_is_refused(
    kept: Recovering, away: timedelta, code: str
) -> None:
    into = kept.into()
    with pytest.raises(InvalidInput) as refused:
        tool_of(kept).restore(Target(time=datetime.now(UTC) + away), into)
    assert refused.value.stable_code == code
    assert not into.exists()


def test_a_copy_neither_archives_nor_waits_nor_follows(kept: Recovering) -> None:
    """Its original had been told by ALTER SYSTEM to wait for a replica, which is copied along."""
    kept.primary.set_synchronous(["nobody-here"])
    try:
        with psycopg.connect(kept.primary.superuser_dsn(), autocommit=True) as connection:
            connection.execute("SET synchronous_commit = local")
            tool = tool_of(kept)
            tool.backup()
            ship(connection)
    finally:
        kept.primary.set_synchronous([])
    prepared = tool.restore(Target(), kept.into())
    with kept.start_copy(prepared) as copy:
        confirm(copy, prepared)
        with psycopg.connect(copy, autocommit=True) as connection:
            connection.execute("CREATE TABLE only_here (id int)")
            connection.execute("SELECT pg_switch_wal()")
            shown = [
                connection.execute(f"SHOW {name}".encode()).fetchone()
                for name in ("archive_mode", "synchronous_standby_names", "primary_conninfo")
            ]
    assert shown == [("off",), ("",), ("",)]
    tool.collect()
    assert {timeline_of(name) for name in tool.repository.segments()} == {1}  # the copy is on 2


def test_an_archive_that_refuses_is_said_aloud_and_loses_nothing(kept: Recovering) -> None:
    """A backup refuses to start meanwhile; what waited arrives once the archive is back."""
    tool = tool_of(kept)
    away = tool.incoming.with_name("away")
    tool.incoming.rename(away)
    try:
        with pytest.raises(Unavailable) as refused:
            ship_now(kept, timeout_s=10.0)
        assert refused.value.stable_code == "wal_archive_failing"
        with pytest.raises(Unavailable) as backup_refused:
            tool.backup()
        assert backup_refused.value.stable_code == "wal_archive_failing"
    finally:
        away.rename(tool.incoming)
    last = ship_now(kept, timeout_s=90.0)
    tool.collect()
    assert tool.repository.segments()[-1] == last
    assert tool.verify() > 0


def test_a_restore_overwrites_nothing(kept: Recovering) -> None:
    into = kept.into()
    into.mkdir()
    (into / "mine").touch()
    with pytest.raises(Exception, match="overwrites nothing"):
        tool_of(kept).restore(Target(), into)
    assert [path.name for path in into.iterdir()] == ["mine"]
