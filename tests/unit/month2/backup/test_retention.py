"""What a repository lets go of, and what it keeps for the backups that stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.backup import BackupRecord
from month2_databases.backup.retention import split, unneeded
from month2_databases.backup.wal_segments import SEGMENT_BYTES, segment_at, segment_name
from scalelab.errors import InvalidInput

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def backup(segment: int) -> BackupRecord:
    """Begun in the middle of a segment, which it ends in as well."""
    started = NOON + timedelta(minutes=segment)
    begin = segment * SEGMENT_BYTES + 100
    return BackupRecord(
        f"b{segment:02}", "1", 1, begin, begin + 50, started, started + timedelta(seconds=5), 1, ""
    )


@given(st.sets(st.integers(2, 40), min_size=1), st.integers(1, 6))
def test_the_newest_stay_with_every_segment_since_the_oldest_of_them(
    segments: set[int], keep: int
) -> None:
    """I1 against a plain count."""
    backups = [backup(one) for one in segments]
    log = [segment_name(1, number) for number in range(1, 45)]
    kept, gone = split(backups, keep)
    newest = sorted(segments)[-keep:]
    assert [one.id for one in kept] == [f"b{one:02}" for one in newest]
    assert sorted([*gone, *(one.id for one in kept)]) == sorted(one.id for one in backups)
    assert unneeded(log, kept) == [segment_name(1, number) for number in range(1, newest[0])]


def test_the_note_of_a_backup_goes_with_its_segment_and_a_history_stays() -> None:
    """A note has the name of the segment its backup began in."""
    old, new = backup(3), backup(5)
    notes = [f"{segment_at(1, one.start_lsn)}.00000064.backup" for one in (old, new)]
    log = ["00000002.history", *notes, f"{segment_name(1, 3)}.partial"]
    assert unneeded(log, [new]) == [notes[0]]


def test_a_segment_of_an_older_timeline_is_judged_by_its_number() -> None:
    """The log counts on over a failover."""
    log = [segment_name(timeline, number) for timeline in (1, 2) for number in (4, 5)]
    assert unneeded(log, [backup(5)]) == [segment_name(1, 4), segment_name(2, 4)]


def test_without_a_backup_nothing_goes() -> None:
    """I2."""
    assert unneeded([segment_name(1, 1)], []) == []


@pytest.mark.parametrize("keep", [0, -1])
def test_the_last_backup_is_never_removed_by_a_rule(keep: int) -> None:
    with pytest.raises(InvalidInput):
        split([backup(2)], keep)
