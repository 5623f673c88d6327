"""Where a restore shall stop, which backup it begins from, and whether it got there. Pure.

Invariants (tests cite them)
    I1  A restore begins from the newest backup that ended before its target.
    I2  A target before the first backup's end, or in the future, is refused beforehand.
    I3  A restore that ended short of what it must hold is an error, never a result.

A named target is a restore point in the log (`pg_create_restore_point`): it is exact, and two
servers can have one of the same name. A time is as good as the server's clock: everything that
committed before it is there, nothing that committed after it. PostgreSQL knows that a time has
passed only when it sees a later commit, so one must be in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from month2_databases.backup.wal_segments import lsn_text
from scalelab.errors import CorruptData, InvalidInput, NotFound


@dataclass(frozen=True, slots=True)
class Target:
    """A time with a zone, or the name of a restore point; neither for the end of the log."""

    time: datetime | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.time is not None and self.name is not None:
            raise InvalidInput("a target is a time or a name, not both", field="target")
        if self.time is not None and self.time.tzinfo is None:
            raise InvalidInput(
                f"{self.time.isoformat()} says no time zone; write it as 2026-03-01T12:00:00+00:00",
                field="to",
                code="target_without_zone",
            )


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """One base backup. id sorts by time. lsns: bytes; restorable from `stop_lsn` on.

    started_at, stopped_at: the server's clock. sha256: of the plain tar.
    """

    id: str
    system: str
    timeline: int
    start_lsn: int
    stop_lsn: int
    started_at: datetime
    stopped_at: datetime
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Reached:
    """What a restored server says of itself. lsn: last byte replayed. commit: last replayed."""

    lsn: int
    commit: datetime | None


def parse_time(text: str) -> datetime:
    """A time as ISO 8601 with a zone. Raises InvalidInput: what it should look like."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is no time; write it as 2026-03-01T12:00:00+00:00", field="to"
        ) from error


def choose(backups: Iterable[BackupRecord], target: Target, *, now: datetime) -> BackupRecord:
    """The backup to begin from (I1, I2). now: on the server's clock."""
    held = sorted(backups, key=lambda backup: backup.stop_lsn)
    if not held:
        raise NotFound("there is no backup here yet. Try: backup.", code="no_backup")
    if target.time is None:
        return held[-1]
    if target.time > now:
        raise InvalidInput(
            f"{target.time.isoformat()} is in the future: it is {now.isoformat()} now",
            field="to",
            code="target_in_future",
        )
    fitting = [backup for backup in held if backup.stopped_at <= target.time]
    if not fitting:
        raise InvalidInput(
            f"{target.time.isoformat()} lies before the end of the first backup, "
            f"{held[0].stopped_at.isoformat()}: nothing older can be restored",
            field="to",
            code="target_before_first_backup",
        )
    return fitting[-1]


def recovery_settings(target: Target) -> dict[str, str]:
    """Lines of a configuration that stop recovery at the target and open the server there."""
    settings = {"recovery_target_timeline": "current", "recovery_target_action": "promote"}
    if target.time is not None:
        settings["recovery_target_time"] = target.time.isoformat(sep=" ")
    if target.name is not None:
        settings["recovery_target_name"] = target.name
    return settings


SEALED_OFF: Mapping[str, str] = {
    "archive_mode": "off",
    "archive_command": "",
    "synchronous_standby_names": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
}
"""What a copy must never inherit: it would archive over its original's log, wait for its
original's replicas, or follow it."""


def check_reached(reached: Reached, target: Target, *, at_least_lsn: int) -> None:
    """Raise CorruptData if a restore ended short (I3). at_least_lsn: what it must have replayed."""
    if reached.lsn < at_least_lsn:
        raise CorruptData(
            f"the restore ended at {lsn_text(reached.lsn)}, before {lsn_text(at_least_lsn)}: part "
            "of the log is missing. The copy is incomplete; do not use it.",
            code="restore_stopped_short",
        )
    if target.time is not None and reached.commit is not None and reached.commit > target.time:
        raise CorruptData(
            f"the restore holds a commit of {reached.commit.isoformat()}, after its target",
            code="restore_went_too_far",
        )
