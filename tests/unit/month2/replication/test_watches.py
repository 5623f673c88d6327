"""Slots and the archive: what is said, of whom, and when nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from month2_databases.replication import (
    Archiver,
    ArchiveTrouble,
    Slot,
    SlotPolicy,
    SlotTrouble,
    judge_archiver,
    judge_slots,
)
from month2_databases.replication.pool_budget import (
    PoolSizes,
    check,
    connections_in_use,
    primary_budget,
    replica_budget,
)
from month2_databases.replication.slot_watch import Severity
from scalelab.errors import InvalidInput

MIB = 1 << 20
WELL = Slot("r1", True, "reserved", 2 * MIB, 100 * MIB, None)
GONE = replace(WELL, is_active=False, inactive_s=20.0)
POLICY = SlotPolicy(inactive_max_s=60.0, kept_share=0.5)
OWNED = {"r1": "replica r1"}


def troubles(slot: Slot, owners: dict[str, str] = OWNED) -> list[SlotTrouble]:
    return [alert.trouble for alert in judge_slots([slot], owners, POLICY)]


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        (WELL, []),
        (GONE, []),
        (replace(GONE, inactive_s=61.0), [SlotTrouble.LEFT_BEHIND]),
        (replace(WELL, kept_bytes=51 * MIB), [SlotTrouble.KEEPS_TOO_MUCH]),
        (replace(WELL, kept_bytes=51 * MIB, kept_max_bytes=None), []),
        (replace(WELL, kept_bytes=300 * MIB, kept_max_bytes=None), [SlotTrouble.KEEPS_TOO_MUCH]),
        (replace(WELL, wal_status="unreserved"), [SlotTrouble.KEEPS_TOO_MUCH]),
        (replace(GONE, wal_status="lost", kept_bytes=0), [SlotTrouble.LOST]),
    ],
)
def test_a_slot_is_judged_by_what_it_keeps_and_for_whom(
    slot: Slot, expected: list[SlotTrouble]
) -> None:
    """I1, I2, I3, one line a case."""
    assert troubles(slot) == expected


def test_errors_come_first_and_name_the_owner() -> None:
    """A lost slot that nobody has come for is both, the worse one first."""
    lost = replace(GONE, wal_status="lost", inactive_s=600.0)
    first, second = judge_slots([lost], OWNED, POLICY)
    assert (first.trouble, first.severity) == (SlotTrouble.LOST, Severity.ERROR)
    assert second.trouble is SlotTrouble.LEFT_BEHIND
    assert first.owner == "replica r1"


def test_a_slot_without_an_owner_and_an_owner_without_a_slot_are_named() -> None:
    """Neither is silent."""
    alerts = judge_slots([WELL], {"r2": "replica r2"}, POLICY)
    assert [(alert.slot, alert.trouble) for alert in alerts] == [
        ("r1", SlotTrouble.NO_OWNER),
        ("r2", SlotTrouble.MISSING),
    ]


ARCHIVING = Archiver(True, 5.0, None, None, 0)


@pytest.mark.parametrize(
    ("archiver", "expected"),
    [
        (ARCHIVING, []),
        (replace(ARCHIVING, archived_age_s=None), []),
        (replace(ARCHIVING, failed_age_s=9.0), []),
        (replace(ARCHIVING, failed_age_s=1.0, failed_segment="01"), [ArchiveTrouble.FAILING]),
        (
            replace(ARCHIVING, archived_age_s=None, failed_age_s=1.0, waiting=9),
            [ArchiveTrouble.FAILING, ArchiveTrouble.BEHIND],
        ),
        (replace(ARCHIVING, waiting=5), [ArchiveTrouble.BEHIND]),
        (replace(ARCHIVING, is_on=False), [ArchiveTrouble.OFF]),
    ],
)
def test_the_archive_is_judged_by_its_newest_event(
    archiver: Archiver, expected: list[ArchiveTrouble]
) -> None:
    """I1, I2, I3, one line a case."""
    assert [alert.trouble for alert in judge_archiver(archiver, waiting_max=4)] == expected


def test_pools_of_all_processes_are_added_up_before_they_open() -> None:
    """4 + 4 and one that asks, six times, in a server of 60 less 10."""
    budget = primary_budget(PoolSizes(), processes=5, max_connections=60)
    assert (budget.needed, budget.available, budget.left) == (45, 50, 5)
    assert check(budget, server="primary") is budget
    assert replica_budget(PoolSizes(), processes=5, max_connections=60).needed == 25


def test_pools_that_do_not_fit_are_refused() -> None:
    """With what to do about it."""
    budget = primary_budget(PoolSizes(), processes=6, max_connections=60)
    with pytest.raises(InvalidInput, match="54 connections and it has 50") as refused:
        check(budget, server="primary")
    assert refused.value.stable_code == "pools_too_large"


def test_connections_in_use_follow_littles_law() -> None:
    """400 reads a second that hold one for 2 ms keep one busy, at 20 ms eight."""
    assert connections_in_use(400, 0.002) == 1
    assert connections_in_use(400, 0.020) == 8
