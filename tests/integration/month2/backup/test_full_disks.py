"""A disk without room, under the repository and under a restore: said, and nothing half done."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.backup import FolderTool, Target, confirm, ship
from scalelab.errors import Unavailable
from tests.fixtures.small_disks import fill_up
from tests.integration.month2.backup.conftest import FAST

if TYPE_CHECKING:
    from month2_databases.experiments.recovering import Recovering
    from scalelab.lab.servers import Providers

pytestmark = pytest.mark.timeout(240)


def test_a_backup_that_does_not_fit_is_no_backup(
    small_disk: Callable[[int], Path], server_root: Path, providers: Providers
) -> None:
    """The one before stays whole; with room again the next one succeeds and restores."""
    from month2_databases.experiments.recovering import start_recovering
    from scalelab.lab.runtime import Runtime

    disk = small_disk(400)
    folder = server_root / f"full-{uuid.uuid4().hex[:8]}"
    with Runtime(folder, private=True, providers=providers) as runtime:
        started = start_recovering(
            runtime, "full", "folder", providers, settings=FAST, root=disk / "repository"
        )
        tool = started.tool
        assert isinstance(tool, FolderTool)
        first = tool.backup()
        ballast = fill_up(disk, leave_bytes=8 << 20)
        with pytest.raises(Unavailable) as refused:
            tool.backup()
        assert (refused.value.stable_code, refused.value.retryable) == ("backup_disk_full", True)
        assert tool.backups() == [first]
        assert [path.name for path in (tool.repository.root / "backups").iterdir()] == [first.id]
        ballast.unlink()
        with psycopg.connect(started.primary.superuser_dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE after_it (id int)")
            ship(connection, timeout_s=90.0)  # the archive had no room either; nothing is lost
        second = tool.backup()
        assert tool.backups() == [first, second]
        assert tool.verify() > 0
        prepared = tool.restore(Target(), started.into())
        with started.start_copy(prepared) as copy:
            confirm(copy, prepared)
            with psycopg.connect(copy) as connection:
                assert connection.execute("SELECT count(*) FROM after_it").fetchone() == (0,)


def test_a_restore_that_does_not_fit_leaves_nothing(
    kept: Recovering, small_disk: Callable[[int], Path]
) -> None:
    """Refused with the size it would take; the repository is as it was."""
    assert isinstance(kept.tool, FolderTool)
    disk = small_disk(16)
    with pytest.raises(Unavailable) as refused:
        kept.tool.restore(Target(), disk / "copy")
    assert refused.value.stable_code == "restore_disk_full"
    assert list(disk.iterdir()) == []
    assert kept.tool.verify() > 0
