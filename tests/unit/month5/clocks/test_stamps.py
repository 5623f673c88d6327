"""What each clock promises of two writes, for any history of writes and exchanges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.clocks import Stamp, Vector, hybrid, lamport, merged, precedes, ticked

NODES = (1, 2, 3)
HISTORIES = st.lists(
    st.tuples(st.sampled_from(NODES), st.sampled_from(NODES), st.integers(-50, 50)), max_size=30
)
"""Writer, whom it hears first, and how far its wall clock is off."""


def written(history: list[tuple[int, int, int]], *, clock: str) -> list[tuple[Stamp, Vector, int]]:
    """The stamp, the truth and the highest wall clock so far, of each write."""
    seen: dict[int, Stamp | None] = dict.fromkeys(NODES)
    known: dict[int, Vector] = {node: {} for node in NODES}
    writes: list[tuple[Stamp, Vector, int]] = []
    highest = 0
    for now, (node, heard, off) in enumerate(history, start=100):
        stamps = [stamp for stamp in (seen[node], seen[heard]) if stamp is not None]
        latest = max(stamps, default=None)
        highest = max(highest, now + off)
        stamp = lamport(node, latest) if clock == "lamport" else hybrid(node, now + off, latest)
        seen[node] = stamp
        known[node] = ticked(merged(known[node], known[heard]), node)
        writes.append((stamp, known[node], highest))
    return writes


@given(HISTORIES)
def test_a_lamport_stamp_is_above_all_that_its_writer_had_seen(
    history: list[tuple[int, int, int]],
) -> None:
    """The clock condition (Lamport 1978)."""
    writes = written(history, clock="lamport")
    assert all(a < b for a, one, _ in writes for b, two, _ in writes if precedes(one, two))


@given(HISTORIES)
def test_a_hybrid_stamp_is_so_too_whatever_the_walls_say(
    history: list[tuple[int, int, int]],
) -> None:
    """Clocks may step back between two writes of one node."""
    writes = written(history, clock="hybrid")
    assert all(a < b for a, one, _ in writes for b, two, _ in writes if precedes(one, two))


@given(HISTORIES)
def test_a_hybrid_stamp_is_never_above_the_highest_wall_clock(
    history: list[tuple[int, int, int]],
) -> None:
    """Which is what makes it a time (Kulkarni et al. 2014)."""
    assert all(stamp.time <= highest for stamp, _, highest in written(history, clock="hybrid"))


@given(HISTORIES)
def test_no_two_stamps_are_equal(history: list[tuple[int, int, int]]) -> None:
    """Each carries its node, and a node's own grow."""
    for clock in ("lamport", "hybrid"):
        stamps = [stamp for stamp, _, _ in written(history, clock=clock)]
        assert len(set(stamps)) == len(stamps)


def test_vectors_tell_after_from_never_met() -> None:
    """The only one of the clocks that can."""
    first = ticked({}, 1)
    after, apart = ticked(first, 2), ticked({}, 3)
    assert precedes(first, after)
    assert not precedes(after, first)
    assert not precedes(after, apart)
    assert not precedes(apart, after)


def test_no_write_precedes_itself() -> None:
    """A repeated one is no conflict."""
    assert not precedes({1: 1}, {1: 1})


def test_what_two_know_together_is_the_higher_count_of_each_node() -> None:
    """Merging siblings comes after both."""
    both = merged({1: 2, 2: 1}, {2: 3})
    assert both == {1: 2, 2: 3}
