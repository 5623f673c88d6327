"""Section 5.1, Raft basics: terms act as a clock."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    RequestVote,
    RequestVoteReply,
    Role,
)
from tests.unit.month5.raft.cluster import leader, node, settle

NEWER: tuple[Message, ...] = (
    RequestVote(2, 1, 5, 0, 0),
    RequestVoteReply(2, 1, 5, False),
    AppendEntries(2, 1, 5, 0, 0, (), 0),
    AppendEntriesReply(2, 1, 5, 0),
    Heartbeat(2, 1, 5, 0, 1),
    HeartbeatReply(2, 1, 5, 1),
)


@pytest.mark.parametrize("message", NEWER, ids=lambda message: type(message).__name__)
def test_whoever_hears_a_later_term_enters_it(message: Message) -> None:
    """'If one server's current term is smaller than the other's, it updates it.'"""
    raft = node()
    raft.step(message)
    assert raft.term == 5


@pytest.mark.parametrize("message", NEWER, ids=lambda message: type(message).__name__)
def test_a_leader_of_an_old_term_becomes_a_follower(message: Message) -> None:
    """'If a candidate or leader discovers that its term is out of date, it reverts.'"""
    raft = leader()
    raft.step(message)
    assert raft.role is Role.FOLLOWER


def test_a_candidate_of_an_old_term_becomes_a_follower() -> None:
    """The same for who stands for election."""
    raft = node()
    raft.campaign()
    raft.step(RequestVoteReply(2, 1, 5, False))
    assert raft.role is Role.FOLLOWER


def test_a_request_of_an_old_term_changes_nothing() -> None:
    """'If a server receives a request with a stale term number, it rejects the request.'"""
    raft = node(term=5)
    raft.step(AppendEntries(2, 1, 4, 0, 0, (), 0))
    assert raft.leader == 0


def test_who_leads_an_old_term_is_told_the_new_one() -> None:
    """Or it would never step down."""
    raft = node(term=5)
    raft.step(Heartbeat(2, 1, 4, 0, 1))
    assert [message.term for message in settle(raft)] == [5]


def test_an_answer_of_an_old_term_is_not_counted() -> None:
    """A vote given in term 1 elects nobody in term 2."""
    raft = node()
    raft.campaign()
    raft.campaign()
    raft.step(RequestVoteReply(2, 1, 1, True))
    assert raft.role is Role.CANDIDATE


def test_a_new_term_is_on_disk_before_anything_of_it_is_said() -> None:
    """Figure 2: persistent state is updated before responding."""
    raft = node()
    raft.campaign()
    ready = raft.ready()
    assert ready is not None
    assert ready.must_sync
    assert ready.sends_first == ()
