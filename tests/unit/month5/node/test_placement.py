"""Claims about where keys lie."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.node import GROUPS, CrossGroup, group_of, group_of_all, groups_of
from month5_kvstore.node.placement import private_id, public_id
from month5_kvstore.store import Interval

keys = st.binary(min_size=1, max_size=12) | st.sampled_from(
    [b"{a}", b"{a}b", b"{}", b"{", b"}{", b"{a}{b}", b"x{a}y", b"{a", b"a}"]
)


def test_where_a_key_lies_never_changes() -> None:
    """These are on disks: another answer would lose them."""
    found = [group_of(key) for key in (b"a", b"b", b"cart", b"{cart}/1", b"\xff")]
    assert found == [1, 3, 5, 5, 2]


@given(key=keys, interval_key=keys, end=keys | st.none())
def test_a_key_lies_in_one_of_the_groups_of_every_interval_that_has_it(
    key: bytes, interval_key: bytes, end: bytes | None
) -> None:
    for interval in (Interval(interval_key, end), Interval.prefix(interval_key)):
        if key in interval:
            assert group_of(key) in groups_of(interval)


def test_keys_with_one_tag_lie_together_and_their_prefix_in_one_group() -> None:
    assert group_of_all([b"{t}/a", b"{t}/b", b"x{t}"]) == group_of(b"t")
    assert list(groups_of(Interval.prefix(b"{t}/"))) == [group_of(b"t")]
    assert len(groups_of(Interval.prefix(b"{t"))) == GROUPS


def test_keys_of_two_groups_are_refused_together() -> None:
    with pytest.raises(CrossGroup):
        group_of_all([b"a", b"b"])
    with pytest.raises(CrossGroup):
        group_of_all([])


def test_keys_spread_over_all_groups_evenly() -> None:
    spread = Counter(group_of(b"key-%d" % number) for number in range(16_000))
    assert len(spread) == GROUPS
    assert max(spread.values()) < 1.25 * min(spread.values())


@given(number=st.integers(1, 2**40), group=st.integers(0, GROUPS - 1))
def test_a_public_id_names_its_group(number: int, group: int) -> None:
    assert private_id(public_id(number, group)) == (number, group)
