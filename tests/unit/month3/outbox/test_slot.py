"""What is wrong with a slot, decided without a server."""

from __future__ import annotations

from dataclasses import replace

from month3_messaging.outbox import SlotLimits, SlotState, SlotTrouble, judge
from month3_messaging.outbox.slot import is_given_up

LIMITS = SlotLimits(age_max_s=300, kept_max_bytes=1000)
WELL = SlotState("outbox_shop", "orders team", True, "reserved", 10, 1.0)


def troubles(state: SlotState) -> list[SlotTrouble]:
    return [alert.trouble for alert in judge(state, LIMITS)]


def test_a_slot_that_is_read_and_small_raises_nothing() -> None:
    """S1."""
    assert judge(WELL, LIMITS) == ()


def test_every_trouble_names_the_owner() -> None:
    """Whom to tell stands in the alert."""
    [alert] = judge(replace(WELL, age_s=301), LIMITS)
    assert (alert.trouble, alert.owner) == (SlotTrouble.LEFT, "orders team")


def test_an_old_slot_is_told_of_and_kept() -> None:
    """Age alone gives nothing up: the relay may come back."""
    assert not is_given_up(judge(replace(WELL, is_active=False, age_s=9000), LIMITS))


def test_a_slot_over_its_cap_is_given_up_even_while_it_is_read() -> None:
    """S2: its reader may be frozen."""
    alerts = judge(replace(WELL, kept_bytes=1001), LIMITS)
    assert troubles(replace(WELL, kept_bytes=1001)) == [SlotTrouble.TOO_LARGE]
    assert is_given_up(alerts)


def test_a_lost_slot_is_given_up_whatever_it_holds() -> None:
    """S2: its size says nothing any more."""
    state = replace(WELL, wal_status="lost", kept_bytes=10**12, age_s=400)
    assert troubles(state) == [SlotTrouble.LOST, SlotTrouble.LEFT]
    assert is_given_up(judge(state, LIMITS))
