"""Claims about what the log knows of its groups: T1 to T4 of month5_kvstore/log/group_trail.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month5_kvstore.log import SnapshotMark, Submission
from month5_kvstore.log.group_trail import GroupTrail, Ledger, follow
from month5_kvstore.raft import Configuration, Entry, EntryKind, HardState
from scalelab.errors import InvariantBroken

MEMBERS = Configuration((1, 2, 3))


def entries(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(Entry(i, term, EntryKind.COMMAND, b"x") for i in range(first, last + 1))


def mark(index: int, *, resets: bool = False) -> SnapshotMark:
    return SnapshotMark(index, 1, MEMBERS, 10, 99, resets)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["append", "snapshot", "reset", "rotate"]),
            st.integers(1, 12),
            st.integers(0, 4),
        ),
        max_size=40,
    )
)
def test_the_segments_needed_are_those_with_a_live_entry(
    steps: list[tuple[str, int, int]],
) -> None:
    """T1, T4: against a dict from each live index to the segment it was last written to."""
    trail, segment, where, snapshot, oldest = GroupTrail(), 1, dict[int, int](), 0, 0
    for what, at, count in steps:
        before = trail
        if what == "rotate":
            segment += 1
            continue
        submission = {
            "append": Submission(1, entries(at, at + count)),
            "snapshot": Submission(1, snapshot=mark(at)),
            "reset": Submission(1, snapshot=mark(at, resets=True)),
        }[what]
        last = max(where, default=snapshot)
        allowed = {
            "append": snapshot < at <= last + 1,
            "snapshot": snapshot < at <= last,
            "reset": snapshot < at,
        }[what]
        if not allowed:
            with pytest.raises(InvariantBroken):
                follow(trail, submission, segment)
            assert trail == before
            continue
        trail = follow(trail, submission, segment)
        if what == "append":
            where = {i: s for i, s in where.items() if i < at}
            where |= dict.fromkeys(range(at, at + count + 1), segment)
        else:
            snapshot = at
            where = {} if what == "reset" else {i: s for i, s in where.items() if i > at}
        assert trail.last_index == max(where, default=snapshot)
        assert [s for s, _ in trail.spans] == sorted(set(where.values()))
        needed = Ledger({1: trail}).oldest_needed(segment)
        assert needed == min(where.values(), default=segment) >= oldest
        oldest = needed


def test_a_committed_entry_is_never_replaced() -> None:
    """T2."""
    trail = follow(GroupTrail(), Submission(1, entries(1, 5), HardState(1, 0, 3)), 1)
    assert follow(trail, Submission(1, entries(4, 4, term=2)), 1).last_index == 4
    with pytest.raises(InvariantBroken, match="committed"):
        follow(trail, Submission(1, entries(3, 3, term=2)), 1)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (HardState(1, 1, 2), "behind"),
        (HardState(2, 1, 1), "behind"),
        (HardState(2, 3, 2), "second vote"),
        (HardState(2, 0, 2), "second vote"),
        (HardState(2, 1, 6), "past"),
    ],
)
def test_a_hard_state_never_falls_back(state: HardState, why: str) -> None:
    """T2: term, commit, one vote a term; and no commit of what is not there."""
    trail = follow(GroupTrail(), Submission(1, entries(1, 5), HardState(2, 1, 2)), 1)
    with pytest.raises(InvariantBroken, match=why):
        follow(trail, Submission(1, hard_state=state), 1)


def test_entries_with_a_hole_in_them_are_refused() -> None:
    """T1."""
    hole = (*entries(1, 2), *entries(4, 4))
    for wrong in (hole, entries(2, 3), hole[::-1]):
        with pytest.raises(InvariantBroken):
            follow(GroupTrail(), Submission(1, wrong), 1)


def test_an_idle_group_is_named_as_what_keeps_old_segments() -> None:
    idle = follow(GroupTrail(), Submission(1, entries(1, 1)), 1)
    busy = follow(GroupTrail(), Submission(2, entries(1, 1)), 4)
    ledger = Ledger({1: idle, 2: busy})
    assert (ledger.oldest_needed(5), ledger.pinning(1)) == (1, [1])
    ledger.trails[1] = follow(idle, Submission(1, snapshot=mark(1)), 5)
    assert (ledger.oldest_needed(5), ledger.pinning(1)) == (4, [])
