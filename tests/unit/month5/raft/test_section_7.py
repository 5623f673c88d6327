"""Section 7, snapshots: what a leader sends, what a follower keeps, what may be forgotten."""

from __future__ import annotations

from random import Random

import pytest

from month5_kvstore.raft import (
    AppendEntries,
    AppendEntriesReply,
    Configuration,
    Entry,
    EntryKind,
    HeartbeatReply,
    InstallSnapshot,
    Phase,
    Raft,
    Snapshot,
)
from scalelab.errors import InvalidInput
from tests.unit.month5.raft.cluster import PLAIN, effects, leader, node, settle

GROUP = Configuration((1, 2, 3))


def compacted(*, keep: int = 0) -> tuple[Raft, Snapshot]:
    """A leader of term 2 with four entries committed, its log compacted up to the third."""
    raft = leader(terms=(1, 1, 1))
    raft.step(AppendEntriesReply(2, 1, 2, 4))
    settle(raft)
    snapshot = raft.snapshot_at(3, b"state")
    raft.compact(snapshot, keep=keep)
    return raft, snapshot


def refused(raft: Raft) -> list[InstallSnapshot | AppendEntries]:
    """Node 3 has nothing at all; what it is sent then."""
    raft.step(AppendEntriesReply(3, 1, 2, 0, rejected=3))
    return [m for m in settle(raft) if isinstance(m, InstallSnapshot | AppendEntries)]


def test_a_snapshot_names_the_last_entry_it_covers_and_the_members_then() -> None:
    """Section 7: last included index and term, and the latest configuration as of that index."""
    _, snapshot = compacted()
    assert snapshot == Snapshot(3, 1, GROUP, b"state")


def test_what_is_not_applied_cannot_be_in_a_snapshot() -> None:
    """Bad input."""
    raft, _ = compacted()
    index = raft.propose(b"not committed")
    with pytest.raises(InvalidInput):
        raft.snapshot_at(index, b"state")


def test_a_follower_that_needs_what_is_gone_gets_the_snapshot() -> None:
    """And no entries meanwhile."""
    raft, snapshot = compacted()
    assert refused(raft) == [InstallSnapshot(1, 3, 2, snapshot)]
    assert raft.status().followers[3].phase is Phase.SNAPSHOT


def test_a_follower_a_little_behind_gets_entries_if_some_were_kept() -> None:
    """Which spares it the whole snapshot."""
    raft, _ = compacted(keep=3)
    sent = refused(raft)
    assert all(isinstance(message, AppendEntries) for message in sent)
    assert sent


def test_entries_follow_as_soon_as_the_snapshot_is_there() -> None:
    """From the one after it on."""
    raft, _ = compacted()
    refused(raft)
    raft.step(AppendEntriesReply(3, 1, 2, 3))
    appends = [m for m in settle(raft) if isinstance(m, AppendEntries) and m.to == 3]
    assert [(m.prev_index, [e.index for e in m.entries]) for m in appends] == [(3, [4])]


def test_a_snapshot_of_which_nobody_says_a_word_is_sent_again() -> None:
    """It, or the answer to it, may be lost; but not before its patience is over."""
    raft, snapshot = compacted()
    refused(raft)
    raft.step(HeartbeatReply(3, 1, 2, 1))
    assert not any(isinstance(message, InstallSnapshot) for message in settle(raft))
    raft.step(HeartbeatReply(3, 1, 2, 10_000))
    assert InstallSnapshot(1, 3, 2, snapshot) in settle(raft)


def test_a_follower_becomes_the_snapshot() -> None:
    """Its log is replaced, and what is handed to the driver is the snapshot."""
    raft = node(2, terms=(1,), term=2)
    snapshot = Snapshot(3, 2, GROUP, b"state")
    raft.step(InstallSnapshot(1, 2, 2, snapshot))
    ready = effects(raft)
    assert (ready.snapshot, ready.must_sync) == (snapshot, True)
    assert (raft.committed, raft.last_index, raft.term_at(3)) == (3, 3, 2)


def test_the_answer_to_a_snapshot_waits_for_the_disk() -> None:
    """It is a promise like that of an entry: sent after the write, never beside it."""
    raft = node(2, term=2)
    raft.step(InstallSnapshot(1, 2, 2, Snapshot(3, 2, GROUP, b"state")))
    ready = effects(raft)
    assert ready.sends_first == ()
    assert AppendEntriesReply(2, 1, 2, 3) in ready.sends


def test_an_old_snapshot_changes_nothing() -> None:
    """What is committed here already is more."""
    raft = node(2, terms=(1, 1, 1, 1), term=2, commit=4)
    settle(raft)
    raft.compact(raft.snapshot_at(3, b"newer"))
    raft.step(InstallSnapshot(1, 2, 2, Snapshot(2, 1, GROUP, b"state")))
    ready = effects(raft)
    assert (ready.snapshot, raft.last_index) == (None, 4)
    assert ready.sends == (AppendEntriesReply(2, 1, 2, 4),)


def test_a_snapshot_within_the_log_commits_and_keeps_what_follows() -> None:
    """Section 7: entries after the snapshot are retained if the one it ends with is there."""
    raft = node(2, terms=(1, 1, 1, 1), term=2)
    settle(raft)
    raft.step(InstallSnapshot(1, 2, 2, Snapshot(2, 1, GROUP, b"state")))
    ready = effects(raft)
    assert (ready.snapshot, raft.committed, raft.last_index) == (None, 2, 4)


def test_a_snapshot_that_contradicts_the_log_replaces_all_of_it() -> None:
    """Section 7: the entry at its index has another term, so what follows is of no use."""
    raft = node(2, terms=(1, 1, 1, 1), term=2)
    settle(raft)
    raft.step(InstallSnapshot(1, 2, 2, Snapshot(2, 2, GROUP, b"state")))
    assert effects(raft).snapshot is not None
    assert (raft.last_index, raft.term_at(3)) == (2, None)


def test_a_snapshot_says_who_may_vote() -> None:
    """One without it would make a group of strangers."""
    raft = node(4, voters=(), term=2)
    grown = Configuration((1, 2, 3, 4))
    raft.step(InstallSnapshot(1, 4, 2, Snapshot(3, 2, grown, b"state")))
    settle(raft)
    assert raft.status().configuration == grown


def test_after_compaction_the_log_still_knows_the_term_before_its_first_entry() -> None:
    """Else the entry after it could not be checked (5.3)."""
    raft, _ = compacted()
    assert (raft.term_at(2), raft.term_at(3), raft.term_at(4)) == (None, 1, 2)


def test_a_node_starts_from_its_snapshot_and_the_entries_after_it() -> None:
    """What is in the snapshot is committed and is not applied again."""
    raft = Raft(
        1,
        PLAIN,
        random=Random(1),
        snapshot=Snapshot(3, 1, GROUP, b"state"),
        entries=(Entry(4, 1, EntryKind.COMMAND, b"x"),),
    )
    status = raft.status()
    assert (status.committed, status.applied, status.last_index) == (3, 3, 4)
