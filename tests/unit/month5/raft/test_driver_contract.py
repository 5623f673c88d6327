"""The driver's contract (ready.py): what the core refuses, and what it waits for."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import AppendEntriesReply, ContractBroken, NotLeader, RequestVote
from scalelab.errors import InvalidInput
from tests.unit.month5.raft.cluster import leader, node, settle


def test_there_is_one_ready_at_a_time() -> None:
    """A second one before `advance` would promise twice."""
    raft = node()
    raft.campaign()
    raft.ready()
    with pytest.raises(ContractBroken):
        raft.ready()


def test_only_the_ready_that_is_out_can_be_given_back() -> None:
    """An old one, given back again, would count entries that are not on disk."""
    raft = node()
    raft.campaign()
    ready = raft.ready()
    assert ready is not None
    raft.advance(ready)
    with pytest.raises(ContractBroken):
        raft.advance(ready)


def test_there_is_nothing_to_do_when_nothing_happened() -> None:
    """An idle group costs nothing."""
    raft = leader()
    settle(raft)
    assert raft.ready() is None


def test_a_leader_counts_its_own_copy_only_after_advance() -> None:
    """Two followers of five and an unfinished write are no majority."""
    raft = leader(voters=(1, 2, 3))
    raft.step(AppendEntriesReply(2, 1, 1, 1))
    settle(raft)
    raft.propose(b"a")
    ready = raft.ready()
    assert ready is not None
    raft.step(AppendEntriesReply(2, 1, 1, 1))
    assert raft.committed == 1
    raft.advance(ready)
    raft.step(AppendEntriesReply(2, 1, 1, 2))
    assert raft.committed == 2


def test_a_leader_sends_entries_beside_its_own_write() -> None:
    """Thesis 10.2.1: its disk and the network work at the same time."""
    raft = leader()
    raft.step(AppendEntriesReply(2, 1, 1, 1))
    settle(raft)
    raft.propose(b"a")
    ready = raft.ready()
    assert ready is not None
    assert ready.must_sync
    assert ready.sends_first


def test_what_comes_while_the_disk_works_shares_the_next_write() -> None:
    """Group commit: three proposals, one more Ready."""
    raft = leader()
    raft.propose(b"a")
    ready = raft.ready()
    assert ready is not None
    for word in (b"b", b"c", b"d"):
        raft.propose(word)
    raft.advance(ready)
    following = raft.ready()
    assert following is not None
    assert [entry.data for entry in following.entries] == [b"b", b"c", b"d"]


def test_who_does_not_lead_refuses_proposals_and_names_the_leader() -> None:
    """Nothing was appended."""
    raft = node()
    with pytest.raises(NotLeader) as refused:
        raft.propose(b"a")
    assert refused.value.leader_id == 0
    assert raft.last_index == 0


def test_a_message_for_another_node_is_refused() -> None:
    """A transport that mixes up addresses must hear of it."""
    with pytest.raises(InvalidInput):
        node(1).step(RequestVote(3, 2, 1, 0, 0))
