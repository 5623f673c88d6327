"""Slots are stable for ever and even."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from scalelab.hashing import slot_for_key
from scalelab.ids import SLOT_COUNT

KNOWN = [194, 201, 212, 48]


@given(st.text(max_size=80))
def test_every_key_has_one_slot_in_range(key: str) -> None:
    """Any text, the same slot each time."""
    assert 0 <= slot_for_key(key) < SLOT_COUNT
    assert slot_for_key(key) == slot_for_key(key)


def test_the_slots_of_known_keys_never_change() -> None:
    """Stored rows depend on these values: a change here is a data migration."""
    keys = ["", "user-1", "user-2", "Ünïcode"]
    assert [slot_for_key(key) for key in keys] == KNOWN


def test_keys_spread_evenly_over_slots() -> None:
    """Chi-square of 51 200 keys over 256 slots stays under its 99.9 % bound of 330."""
    counts = Counter(slot_for_key(f"user-{n}") for n in range(51_200))
    expected = 51_200 / SLOT_COUNT
    assert sum((counts[s] - expected) ** 2 / expected for s in range(SLOT_COUNT)) < 330
