"""UUIDv7 and routed ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import InvalidInput
from scalelab.ids import SLOT_COUNT, routed_uuid7, slot_of, uuid7

INSTANTS = st.integers(0, 16_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)


def all_ones(bits: int) -> int:
    return (1 << bits) - 1


@given(INSTANTS)
def test_version_variant_and_time_stand_where_the_rfc_says(instant: datetime) -> None:
    """RFC 9562 section 5.7, for any instant and for random bits that are all ones."""
    made = uuid7(instant, all_ones)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert abs((made.int >> 80) - instant.timestamp() * 1000) <= 1


def test_the_example_of_the_rfc() -> None:
    """RFC 9562 appendix A.6, with its random bits."""
    bits = {12: 0xCC3, 62: 0x18C4DC0C0C07398F}
    instant = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert uuid7(instant, bits.__getitem__) == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")


@given(st.integers(0, SLOT_COUNT - 1), INSTANTS, st.randoms())
def test_a_routed_id_carries_its_slot(slot: int, instant: datetime, chance: object) -> None:
    """Any slot comes back, whatever the random bits, and the id stays a version 7."""
    made = routed_uuid7(slot, instant, chance.getrandbits)  # type: ignore[attr-defined]
    assert slot_of(made) == slot
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


def test_later_ids_sort_later() -> None:
    """By millisecond, also as text."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = [str(uuid7(start + timedelta(milliseconds=ms))) for ms in range(50)]
    assert made == sorted(made)


@pytest.mark.parametrize("slot", [-1, 256, 1000])
def test_a_slot_outside_the_range_is_refused(slot: int) -> None:
    """It would not come back out."""
    with pytest.raises(InvalidInput):
        routed_uuid7(slot, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_foreign_id_is_not_routed_by() -> None:
    """A random UUID would name a random shard."""
    with pytest.raises(InvalidInput) as refusal:
        slot_of(uuid4())
    assert refusal.value.field == "order_id"
