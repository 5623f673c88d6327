"""Section 5.3, log replication."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import AppendEntries, AppendEntriesReply, Entry, EntryKind, Raft
from tests.unit.month5.raft.cluster import effects, leader, node, settle


def _entries(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(
        Entry(index, term, EntryKind.COMMAND, b"y") for index, term in enumerate(terms, start=first)
    )


def _terms(raft: Raft) -> list[int | None]:
    return [raft.term_at(index) for index in range(1, raft.last_index + 1)]


def test_a_leader_sends_a_new_entry_with_the_place_before_it() -> None:
    """To all others, with index and term of the entry that precedes."""
    raft = leader()
    for peer in (2, 3):
        raft.step(AppendEntriesReply(peer, 1, 1, 1))
    settle(raft)
    raft.propose(b"a")
    appended = [m for m in settle(raft) if isinstance(m, AppendEntries)]
    assert [(m.to, m.prev_index, m.prev_term, len(m.entries)) for m in appended] == [
        (2, 1, 1, 1),
        (3, 1, 1, 1),
    ]


def test_an_entry_is_committed_once_a_majority_has_it() -> None:
    """And is handed out to be applied, with all before it."""
    raft = leader()
    raft.propose(b"a")
    settle(raft)
    assert raft.committed == 0
    raft.step(AppendEntriesReply(2, 1, 1, 2))
    assert [entry.index for entry in effects(raft).committed] == [1, 2]


def test_followers_learn_what_is_committed() -> None:
    """By the commit index of the next message, as far as that message shows a match."""
    raft = node(2)
    raft.step(AppendEntries(1, 2, 1, 0, 0, _entries(1, 1, 1), 1))
    assert [entry.index for entry in effects(raft).committed] == [1]


@pytest.mark.parametrize(
    ("own", "prev", "accepted"),
    [
        ((1, 1), (2, 1), True),
        ((1, 1), (1, 1), True),
        ((1, 1), (0, 0), True),
        ((1, 1), (3, 1), False),
        ((1, 2), (2, 3), False),
        ((1, 2), (2, 1), False),
        ((), (1, 1), False),
    ],
)
def test_entries_are_taken_only_where_the_one_before_matches(
    own: tuple[int, ...], prev: tuple[int, int], *, accepted: bool
) -> None:
    """The consistency check."""
    raft = node(2, terms=own, term=4)
    raft.step(AppendEntries(1, 2, 4, *prev, (), 0))
    (reply,) = settle(raft)
    assert isinstance(reply, AppendEntriesReply)
    assert (reply.rejected is None) is accepted


@pytest.mark.parametrize(
    ("own", "prev", "sent", "after"),
    [
        # The followers of figure 7, and the leader of term 8 that brings them into line.
        ((1, 1, 1, 4, 4, 5, 5, 6, 6), (9, 6), (6, 8), (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8)),
        ((1, 1, 1, 4), (4, 4), (5, 5, 6), (1, 1, 1, 4, 5, 5, 6)),
        ((1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6), (10, 6), (8,), (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8)),
        ((1, 1, 1, 4, 4, 4, 4), (5, 4), (5, 5), (1, 1, 1, 4, 4, 5, 5)),
        ((1, 1, 1, 2, 2, 2, 3, 3), (3, 1), (4, 4), (1, 1, 1, 4, 4)),
    ],
)
def test_what_conflicts_is_cut_off_and_replaced(
    own: tuple[int, ...], prev: tuple[int, int], sent: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """'Delete the existing entry and all that follow it.'"""
    raft = node(2, terms=own, term=8)
    first = prev[0] + 1
    raft.step(AppendEntries(1, 2, 8, *prev, _entries(first, *sent), 0))
    assert tuple(_terms(raft)) == after


def test_entries_that_are_there_already_cut_nothing_off() -> None:
    """A message that is late or repeated must not undo a later one."""
    raft = node(2, terms=(1, 1, 1, 1))
    raft.step(AppendEntries(1, 2, 1, 0, 0, _entries(1, 1, 1), 0))
    assert _terms(raft) == [1, 1, 1, 1]


def test_an_acknowledgement_waits_for_the_disk() -> None:
    """And says no more than what the message showed."""
    raft = node(2, terms=(1, 1, 1), term=2)
    raft.step(AppendEntries(1, 2, 2, 1, 1, (), 0))
    ready = raft.ready()
    assert ready is not None
    assert ready.sends_first == ()
    assert ready.sends == (AppendEntriesReply(2, 1, 2, 1),)


def test_a_refusal_says_where_the_logs_may_still_agree() -> None:
    """The end of section 5.3: whole terms are skipped, not single entries."""
    raft = node(2, terms=(1, 1, 4, 4, 4, 4), term=8)
    raft.step(AppendEntries(1, 2, 8, 6, 3, (), 0))
    (reply,) = settle(raft)
    assert reply == AppendEntriesReply(2, 1, 8, 0, 6, 2, 1)
