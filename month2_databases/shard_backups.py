"""Backups of all shards of a stack: taken, verified, restored elsewhere, drilled. Blocking.

Each shard has a repository of its own. What makes the backups of several shards one backup is a
restore point of one name in all their logs (see `backup.barrier`), written after the last of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from month2_databases.backup import (
    DrillReport,
    FolderTool,
    Prepared,
    Reached,
    StartCopy,
    Target,
    append_drill,
    confirm,
    drill,
    read_drills,
    restore_point,
    ship,
)
from scalelab.errors import InvalidInput

_COUNT_SQL: LiteralString = "SELECT count(*) FROM orders"
KEEP_BACKUPS = 3
"""Backups of a shard that stay when a new one was taken, unless somebody says otherwise."""

_DRILL_ROWS, _DRILL_WRITTEN = 1000, 200


@dataclass(frozen=True, slots=True)
class ShardBackups:
    """The shards of a stack. tools, dsns: by shard, DSNs of the superuser in the orders' database.

    history: the file of the drills.
    """

    tools: Mapping[str, FolderTool]
    dsns: Mapping[str, str]
    history: Path

    def chosen(self, names: list[str] | None) -> list[str]:
        """The shards that were named, or all. Raises InvalidInput for a name that is none."""
        for name in names or ():
            if name not in self.tools:
                known = ", ".join(self.tools)
                raise InvalidInput(f"{name} is no shard; there is: {known}", field="shard")
        return names or list(self.tools)

    def backup(self, names: list[str] | None = None, *, keep: int = KEEP_BACKUPS) -> dict[str, Any]:
        """A full backup of each; of all shards together one point more, which can be restored to.

        Once all of that is in the repositories, all but the `keep` newest backups of each shard
        go, and the log that served them alone.

        Raises InvalidInput for a `keep` below 1; Unavailable: `wal_archive_failing`,
        `backup_disk_full`, `backup_failed`; Overloaded `barrier_busy`. Then backups that were
        taken before stay.
        """
        if keep < 1:
            raise InvalidInput("at least one backup is kept", field="keep")
        taken = {name: self.tools[name].backup() for name in self.chosen(names)}
        point = None
        if taken.keys() == self.tools.keys():
            point = f"backup-{max(record.id for record in taken.values())}"
            restore_point(self.dsns, point)
        for name in taken:
            self.ship(name)
        pruned = self.prune(list(taken), keep=keep)
        shown = {
            name: {
                "id": record.id,
                "bytes": record.bytes,
                "ended_at": record.stopped_at,
                **pruned[name],
            }
            for name, record in taken.items()
        }
        return {"shards": shown, "point": point}

    def prune(
        self, names: list[str] | None = None, *, keep: int = KEEP_BACKUPS
    ) -> dict[str, dict[str, Any]]:
        """Remove all but the `keep` newest backups of each, and the log that served them alone.

        It needs no room and no running shard. Raises InvalidInput for a `keep` below 1.
        """
        pruned = {name: self.tools[name].prune(keep) for name in self.chosen(names)}
        return {
            name: {"removed": list(one.backups), "freed_bytes": one.bytes}
            for name, one in pruned.items()
        }

    def verify(self, names: list[str] | None = None) -> dict[str, int]:
        """Read every file of the repositories again; how many are right. Raises CorruptData."""
        return {name: self.tools[name].verify() for name in self.chosen(names)}

    def prepare(self, name: str, target: Target, into: Path) -> Prepared:
        """Fill `into` for a copy of one shard; a running shard hands over its newest log first."""
        self.ship(name)
        return self.tools[name].restore(target, into)

    def drill(
        self, name: str, into: Path, start_copy: StartCopy, *, rows: int = _DRILL_ROWS
    ) -> DrillReport:
        """One drill on a running shard, noted in the history. The orders are not touched."""
        (shard,) = self.chosen([name])
        report = drill(
            self.tools[shard],
            self.dsns[shard],
            into,
            start_copy,
            rows=rows,
            written=min(rows, _DRILL_WRITTEN),
        )
        append_drill(self.history, report)
        return report

    def drills(self) -> list[DrillReport]:
        """All drills of this stack, the oldest first."""
        return read_drills(self.history)

    def ship(self, name: str) -> bool:
        """Have all that was committed in the repository; False if the shard does not run."""
        try:
            connection = psycopg.connect(self.dsns[name], autocommit=True, connect_timeout=5)
        except psycopg.OperationalError:
            return False
        with connection:
            ship(connection)
        return True


def opened(copy: str, prepared: Prepared) -> dict[str, Any]:
    """What a started copy shows once it is open. Raises as `confirm` does."""
    reached: Reached = confirm(copy, prepared)
    with psycopg.connect(copy, autocommit=True) as connection:
        row = connection.execute(_COUNT_SQL).fetchone()
    assert row is not None
    return {
        "backup": prepared.backup.id,
        "folder": str(prepared.data),
        "last_commit": _iso(reached.commit),
        "orders": row[0],
    }


def drill_document(report: DrillReport) -> dict[str, Any]:
    """A drill as a program reads it."""
    return {
        "at": report.at.isoformat(),
        "backup": report.backup,
        "backup_bytes": report.backup_bytes,
        "rows": report.rows,
        "acknowledged": report.acknowledged,
        "lost_rows": report.lost_rows,
        "matches": report.matches,
        "rpo_s": round(report.rpo_s, 3),
        "rto_s": round(report.rto_s, 3),
        "passed": report.passed,
    }


CopyFolder = Callable[[str], Path]
"""A folder for a copy of the shard of that name, not yet made."""


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
