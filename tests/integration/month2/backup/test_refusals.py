"""What a backup or a restore refuses, each by its own code, and a repository that is full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from month2_databases.backup import FolderTool, Target, confirm, ship
from month2_databases.backup.wal_segments import SEGMENT_BYTES
from scalelab.errors import Conflict, Unavailable
from scalelab.lab.servers import ServerFailed
from tests.fixtures.small_disks import fill_up

if TYPE_CHECKING:
    from month2_databases.experiments.recovering import Recovering
    from scalelab.lab.servers import Providers

pytestmark = pytest.mark.timeout(240)


def tool_of(kept: Recovering) -> FolderTool:
    assert isinstance(kept.tool, FolderTool)
    return kept.tool


def test_two_servers_in_one_repository_are_noticed(kept: Recovering) -> None:
    """A segment that comes again with other bytes is not taken; the first one stays."""
    tool = tool_of(kept)
    with psycopg.connect(kept.primary.superuser_dsn(), autocommit=True) as connection:
        ship(connection, timeout_s=90.0)
    tool.collect()
    name = tool.repository.segments()[-1]
    before = tool.repository.read(f"wal/{name}")
    strange = tool.incoming / name
    strange.write_bytes(b"\1" * SEGMENT_BYTES)
    try:
        with pytest.raises(Conflict) as refused:
            tool.collect()
        assert refused.value.stable_code == "wal_segment_differs"
        assert strange.exists()
        assert tool.repository.read(f"wal/{name}") == before
        strange.write_bytes(before)  # the same bytes again: a repeated hand-over
        assert tool.collect() >= 1
    finally:
        strange.unlink(missing_ok=True)


def test_a_server_that_archives_nothing_is_not_backed_up(
    postgres_server: Any, kept: Recovering, providers: Providers, tmp_path: Path
) -> None:
    """Such a backup could be carried to no later time; the repository stays empty."""
    from month2_databases.experiments.recovering import folder_tool

    tool = folder_tool(kept.runtime, postgres_server, providers, tmp_path)
    with pytest.raises(Unavailable) as refused:
        tool.backup()
    assert refused.value.stable_code == "wal_archive_off"
    assert tool.backups() == []
    assert tool.repository.log_files() == []


def test_a_copy_whose_log_ends_before_its_point_does_not_open(kept: Recovering) -> None:
    """PostgreSQL ends itself, and who waits for the copy is told where to look.

    Between its first consistent state and the end of its log it may be read, so its start can
    look well; that it ended is seen either at its start or soon after it.
    """
    prepared = tool_of(kept).restore(Target(name="never-written"), kept.into())
    with (
        pytest.raises((ServerFailed, Unavailable)) as ended,
        kept.start_copy(prepared) as copy,
    ):
        confirm(copy, prepared, timeout_s=30.0)
    if isinstance(ended.value, Unavailable):
        assert ended.value.stable_code == "restore_not_open"
    nobody = "postgresql://postgres@127.0.0.1:1/postgres"
    with pytest.raises(Unavailable) as refused:
        confirm(nobody, prepared, timeout_s=0.5)
    assert refused.value.stable_code == "restore_not_open"
    assert str(prepared.data) in refused.value.message


def test_a_full_repository_can_be_pruned(
    kept: Recovering, providers: Providers, small_disk: Callable[[int], Path]
) -> None:
    """Not a byte of room: the old backups go all the same, and what stays is right."""
    from month2_databases.experiments.recovering import folder_tool

    tool = tool_of(kept)
    while len(tool.backups()) < 2:
        tool.backup()
    tool.prune(2)
    parts = [tool.repository.root / part for part in ("backups", "wal")]
    stored = sum(path.stat().st_size for part in parts for path in part.rglob("*"))
    disk = small_disk((stored >> 20) + 64)
    for part in parts:
        shutil.copytree(part, disk / "repository" / part.name)
    full = folder_tool(kept.runtime, kept.primary, providers, disk / "repository")
    fill_up(disk, leave_bytes=0)
    before = full.backups()
    pruned = full.prune(1)
    assert pruned.bytes > sum(one.bytes for one in before[:-1])
    assert full.backups() == before[-1:]
    assert full.verify() > 0
