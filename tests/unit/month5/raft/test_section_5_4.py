"""Section 5.4, safety: who may be elected, and what a leader may take as committed."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
    RequestVote,
    RequestVoteReply,
)
from tests.unit.month5.raft.cluster import leader, node, settle


@pytest.mark.parametrize(
    ("own", "last", "granted"),
    [
        ((1,), (1, 1), True),
        ((1,), (2, 1), True),
        ((1, 1), (1, 1), False),
        ((1, 1), (1, 2), True),
        ((1, 2), (5, 1), False),
        ((2,), (2, 1), False),
        ((), (0, 0), True),
    ],
)
def test_a_voter_refuses_a_log_that_is_less_complete_than_its_own(
    own: tuple[int, ...], last: tuple[int, int], *, granted: bool
) -> None:
    """5.4.1: the later last term wins; between equal ones, the longer log."""
    raft = node(2, terms=own, term=3)
    raft.step(RequestVote(1, 2, 4, *last))
    assert settle(raft) == [RequestVoteReply(2, 1, 4, granted)]


@pytest.mark.parametrize(("acknowledged", "committed"), [(1, 0), (2, 0), (3, 3)])
def test_a_leader_commits_by_counting_only_entries_of_its_own_term(
    acknowledged: int, committed: int
) -> None:
    """5.4.2: entries 1 and 2 are of term 1, entry 3 is the leader's own of term 2."""
    raft = leader(terms=(1, 1))
    raft.step(AppendEntriesReply(2, 1, 2, acknowledged))
    assert raft.committed == committed


def test_a_new_leader_begins_with_an_empty_entry_of_its_own() -> None:
    """Section 8: only that tells it how far the log is committed."""
    raft = leader(terms=(1, 1))
    settle(raft)
    assert (raft.last_index, raft.term_at(3)) == (3, 2)


def test_the_empty_entry_is_sent_with_no_command() -> None:
    """The state machine does not see it."""
    raft = node()
    raft.campaign()
    raft.step(RequestVoteReply(2, 1, 1, True))
    kinds = {e.kind for m in settle(raft) if isinstance(m, AppendEntries) for e in m.entries}
    assert kinds == {EntryKind.NOOP}
