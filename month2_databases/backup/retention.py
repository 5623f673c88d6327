"""What a repository may let go of: backups beyond the newest few, and log that none of them needs.

A backup is restored from the segment it began in, onwards; everything older in the log serves only
backups that are gone. Segments are compared by number and not by timeline, for the log goes on
counting after a failover: an old timeline's later segments are what leads to the new one. Histories
of timelines are a few bytes, and recovery needs them; they stay.

Invariants (tests cite them)
    I1  The `keep` newest backups stay, and every segment from the beginning of the oldest of them.
    I2  Without a backup nothing is let go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from month2_databases.backup.recovery_target import BackupRecord
from month2_databases.backup.wal_segments import SEGMENT_BYTES, is_segment, number_of
from scalelab.errors import InvalidInput

_NAME_LENGTH = 24
"""Of a segment. A backup's note, `<segment>.<offset>.backup`, begins with one."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed. backups: their ids. log_files: segments and notes. bytes: as stored."""

    backups: tuple[str, ...] = ()
    log_files: int = 0
    bytes: int = 0


def split(backups: Iterable[BackupRecord], keep: int) -> tuple[list[BackupRecord], list[str]]:
    """The `keep` newest backups, and the ids of the others, each the oldest first (I1).

    Raises InvalidInput if keep is less than 1: the last backup is never removed by a rule.
    """
    if keep < 1:
        raise InvalidInput("at least one backup is kept", field="keep")
    ordered = sorted(backups, key=lambda one: one.stop_lsn)
    return ordered[-keep:], [one.id for one in ordered[:-keep]]


def unneeded(log: Iterable[str], kept: Sequence[BackupRecord]) -> list[str]:
    """Names of segments and notes in `log` that no kept backup needs (I1, I2)."""
    if not kept:
        return []
    first = min(one.start_lsn // SEGMENT_BYTES for one in kept)
    return [
        name
        for name in log
        if is_segment(name[:_NAME_LENGTH])
        and (is_segment(name) or name.endswith(".backup"))
        and number_of(name[:_NAME_LENGTH]) < first
    ]
