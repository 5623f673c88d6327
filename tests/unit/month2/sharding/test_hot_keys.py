"""Hot keys found in little memory, and split."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.sharding import (
    CountMinSketch,
    HashPlacement,
    SpaceSaving,
    SplitKeys,
    even,
)
from scalelab.errors import InvalidInput

STREAMS = st.lists(st.integers(0, 30).map(str), max_size=300)


@given(STREAMS, st.integers(1, 12))
def test_counts_are_right_up_to_their_error(stream: list[str], capacity: int) -> None:
    """I1 for any stream and any number of counters."""
    summary, true = SpaceSaving(capacity), Counter(stream)
    for key in stream:
        summary.add(key)
    held = summary.hottest()
    assert len(held) <= capacity
    for hot in held:
        assert hot.at_least <= true[hot.key] <= hot.count


@given(STREAMS, st.integers(1, 12))
def test_no_frequent_key_is_missed(stream: list[str], capacity: int) -> None:
    """I2: whoever has more than its share of the counters is held."""
    summary = SpaceSaving(capacity)
    for key in stream:
        summary.add(key)
    frequent = {k for k, n in Counter(stream).items() if n > len(stream) / capacity}
    assert frequent <= {hot.key for hot in summary.hottest()}


def test_one_hot_key_among_many_is_named() -> None:
    """A tenth of a stream of 20,000 keys, with 50 counters."""
    generator = random.Random(7)
    summary = SpaceSaving(50)
    for _ in range(20_000):
        hot = generator.random() < 0.1
        summary.add("hot" if hot else f"cold-{generator.randrange(20_000)}")
    assert [hot.key for hot in summary.hottest(share=0.05)] == ["hot"]


@given(STREAMS, STREAMS)
def test_a_sketch_is_never_too_low_and_two_add_up(one: list[str], other: list[str]) -> None:
    """I3 and I4."""
    sketches = [CountMinSketch(16, 3) for _ in range(3)]
    for place, stream in enumerate((one, other, one + other)):
        for key in stream:
            sketches[place].add(key)
    true = Counter(one + other)
    both = sketches[0].plus(sketches[1])
    for key in true:
        assert both.estimate(key) == sketches[2].estimate(key) >= true[key]
    assert both.total == len(one) + len(other)


def test_a_sketch_is_seldom_far_too_high() -> None:
    """I3: the excess is over 2 * total / width for at most 2**-depth of the keys."""
    generator = random.Random(11)
    sketch, true = CountMinSketch(256, 4), Counter[str]()
    for _ in range(20_000):
        key = str(generator.randrange(2000))
        sketch.add(key)
        true[key] += 1
    far = sum(sketch.estimate(key) - n > 2 * sketch.total / 256 for key, n in true.items())
    assert far <= len(true) / 2**4


def test_sketches_of_two_shapes_do_not_add_up() -> None:
    """With a code."""
    with pytest.raises(InvalidInput) as refusal:
        CountMinSketch(16).plus(CountMinSketch(17))
    assert refusal.value.stable_code == "other_shape"


def test_a_split_key_is_written_in_places_of_several_shards() -> None:
    """Eight sub-keys over four shards; each write goes to one, a read to all."""
    placement = HashPlacement(even(["a", "b", "c", "d"]))
    keys = SplitKeys().split("hot", 8)
    written = Counter(keys.writes_to("hot", draw) for draw in range(800))
    assert set(written.values()) == {100}
    assert set(written) == set(keys.reads_from("hot"))
    assert len({placement.shard_of(key) for key in written}) >= 3


def test_what_was_written_before_a_split_is_read_after_it() -> None:
    """I1, I2 and I3: the key itself stays the first of its sub-keys."""
    before, after = SplitKeys(), SplitKeys().split("hot", 2).split("hot", 5)
    assert before.reads_from("hot") == (before.writes_to("hot", 3),) == ("hot",)
    assert after.reads_from("hot")[:1] == ("hot",)
    assert set(SplitKeys().split("hot", 2).reads_from("hot")) < set(after.reads_from("hot"))


@pytest.mark.parametrize(("key", "ways"), [("hot", 1), ("hot", 2), ("a~1", 4)])
def test_a_split_that_would_lose_parts_is_refused(key: str, ways: int) -> None:
    """Fewer ways than before, or a key that looks like a sub-key."""
    with pytest.raises(InvalidInput):
        SplitKeys().split("hot", 3).split(key, ways)


def test_no_counters_and_no_cells_are_refused() -> None:
    """There is nothing to count with."""
    with pytest.raises(InvalidInput):
        SpaceSaving(0)
    with pytest.raises(InvalidInput):
        CountMinSketch(0)
