"""Archive watch: log segments that wait for an archive which does not take them. Pure.

A failing `archive_command` loses nothing at first: the server keeps the segment and tries again,
for ever. What grows is the disk, and what shrinks is the past a restore can reach; and nothing
says so but a view. Failing is judged by the newest event, not by counters: a counter of failures
never goes down, and one of successes says nothing of now.

Invariants (tests cite them)
    I1  The newest attempt failed -> an alert, however many succeeded before.
    I2  A backlog over the limit is an alert even while attempts succeed: the archive is too slow.
    I3  Archiving that is switched off is an alert of its own, never silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ArchiveTrouble(StrEnum):
    """What can be wrong with the archive."""

    OFF = "off"
    FAILING = "failing"
    BEHIND = "behind"


@dataclass(frozen=True, slots=True)
class Archiver:
    """pg_stat_archiver and the segments that wait. ages: seconds since the event, None if never.

    waiting: complete segments not archived yet.
    """

    is_on: bool
    archived_age_s: float | None
    failed_age_s: float | None
    failed_segment: str | None
    waiting: int


@dataclass(frozen=True, slots=True)
class ArchiveAlert:
    """A trouble, and what to do about it."""

    trouble: ArchiveTrouble
    advice: str


def judge(archiver: Archiver, *, waiting_max: int = 4) -> tuple[ArchiveAlert, ...]:
    """Alerts, the worst first (I1, I2, I3)."""
    if not archiver.is_on:
        advice = "archive_mode is off: nothing can be restored to a point in time"
        return (ArchiveAlert(ArchiveTrouble.OFF, advice),)
    found: list[ArchiveAlert] = []
    failed_s, archived_s = archiver.failed_age_s, archiver.archived_age_s
    if failed_s is not None and (archived_s is None or failed_s < archived_s):
        advice = (
            f"{archiver.failed_segment} is refused; nothing is lost while the disk holds "
            f"({archiver.waiting} segments wait): free or repair the archive"
        )
        found.append(ArchiveAlert(ArchiveTrouble.FAILING, advice))
    if archiver.waiting > waiting_max:
        advice = (
            f"{archiver.waiting} segments wait, more than {waiting_max}: it is too slow or away"
        )
        found.append(ArchiveAlert(ArchiveTrouble.BEHIND, advice))
    return tuple(found)
