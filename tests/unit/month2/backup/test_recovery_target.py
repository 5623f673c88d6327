"""Which backup a restore begins from, what is refused beforehand, and what counts as reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from month2_databases.backup import BackupRecord, Reached, Target, check_reached, parse_time
from month2_databases.backup.recovery_target import choose, recovery_settings
from scalelab.errors import CorruptData, InvalidInput, NotFound

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def backup(number: int) -> BackupRecord:
    """Taken `number` hours after noon, in a minute."""
    started = NOON + timedelta(hours=number)
    return BackupRecord(
        id=f"b{number}",
        system="1",
        timeline=1,
        start_lsn=number * 1000,
        stop_lsn=number * 1000 + 500,
        started_at=started,
        stopped_at=started + timedelta(minutes=1),
        bytes=1,
        sha256="",
    )


BACKUPS = [backup(3), backup(1), backup(2)]
NOW = NOON + timedelta(hours=9)


def test_the_newest_backup_that_ended_before_the_time_is_taken() -> None:
    """I1: one that was still running then is not."""
    during_the_third = NOON + timedelta(hours=3, seconds=30)
    assert choose(BACKUPS, Target(time=during_the_third), now=NOW).id == "b2"


def test_without_a_time_the_newest_backup_is_taken() -> None:
    assert choose(BACKUPS, Target(), now=NOW).id == "b3"


def test_a_time_before_the_first_backup_is_refused() -> None:
    """I2."""
    with pytest.raises(InvalidInput) as refused:
        choose(BACKUPS, Target(time=NOON), now=NOW)
    assert refused.value.stable_code == "target_before_first_backup"


def test_a_time_in_the_future_is_refused() -> None:
    """I2."""
    with pytest.raises(InvalidInput) as refused:
        choose(BACKUPS, Target(time=NOW + timedelta(seconds=1)), now=NOW)
    assert refused.value.stable_code == "target_in_future"


def test_an_empty_repository_says_so() -> None:
    with pytest.raises(NotFound) as refused:
        choose([], Target(), now=NOW)
    assert refused.value.stable_code == "no_backup"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        Target(time=datetime(2026, 3, 1, 12))  # noqa: DTZ001
    assert refused.value.stable_code == "target_without_zone"


def test_a_time_and_a_name_together_are_refused() -> None:
    with pytest.raises(InvalidInput):
        Target(time=NOON, name="before")


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01"])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_time(text)


def test_a_restore_that_ended_short_is_an_error() -> None:
    """I3."""
    with pytest.raises(CorruptData) as refused:
        check_reached(Reached(99, NOON), Target(), at_least_lsn=100)
    assert refused.value.stable_code == "restore_stopped_short"


def test_a_restore_that_went_past_its_time_is_an_error() -> None:
    late = Reached(100, NOON + timedelta(microseconds=1))
    with pytest.raises(CorruptData) as refused:
        check_reached(late, Target(time=NOON), at_least_lsn=100)
    assert refused.value.stable_code == "restore_went_too_far"


def test_a_copy_is_opened_where_its_target_is() -> None:
    settings = recovery_settings(Target(name="before-the-drop"))
    assert settings["recovery_target_name"] == "before-the-drop"
    assert settings["recovery_target_action"] == "promote"
