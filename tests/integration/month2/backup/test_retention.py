"""Old backups go with the log that served them alone; what stays can be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.backup import FolderTool, Pruned, Target, confirm, ship
from month2_databases.backup.wal_segments import segment_at
from scalelab.errors import InvalidInput

if TYPE_CHECKING:
    from month2_databases.experiments.recovering import Recovering

pytestmark = pytest.mark.timeout(240)


def test_what_no_kept_backup_needs_goes_and_the_rest_restores(kept: Recovering) -> None:
    """Pruned once; a second time there is nothing to do; the oldest that stays is opened."""
    tool = kept.tool
    assert isinstance(tool, FolderTool)
    for _ in range(2):
        with psycopg.connect(kept.primary.superuser_dsn(), autocommit=True) as connection:
            ship(connection)
        tool.backup()
    before = tool.backups()
    oldest = before[-2]
    pruned = tool.prune(2)
    assert pruned.backups == tuple(one.id for one in before[:-2])
    assert pruned.log_files > 0
    assert pruned.bytes > sum(one.bytes for one in before[:-2])
    assert tool.prune(2) == Pruned()
    assert tool.backups() == before[-2:]
    assert tool.repository.segments()[0] == segment_at(oldest.timeline, oldest.start_lsn)
    assert tool.verify() > 0
    prepared = tool.restore(Target(time=oldest.stopped_at), kept.into())
    assert prepared.backup == oldest
    with kept.start_copy(prepared) as copy:
        confirm(copy, prepared)
    with pytest.raises(InvalidInput) as refused:
        tool.restore(Target(time=before[-3].stopped_at), kept.into())
    assert refused.value.stable_code == "target_before_first_backup"


def test_the_last_backup_is_not_pruned(kept: Recovering) -> None:
    assert isinstance(kept.tool, FolderTool)
    before = kept.tool.backups()
    with pytest.raises(InvalidInput):
        kept.tool.prune(0)
    assert kept.tool.backups() == before


def test_a_prune_that_was_killed_is_finished_by_the_next_one(kept: Recovering) -> None:
    """Left as a kill leaves it: the record gone, all else still there."""
    tool = kept.tool
    assert isinstance(tool, FolderTool)
    first = tool.backup()
    folder = tool.repository.root / "backups" / first.id
    (folder / "record.json").unlink()
    assert first not in tool.backups()
    newest = tool.backup()
    assert not folder.exists()
    tool.prune(1)
    assert tool.backups() == [newest]
    assert tool.repository.segments()[0] == segment_at(newest.timeline, newest.start_lsn)
