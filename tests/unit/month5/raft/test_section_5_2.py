"""Section 5.2, leader election."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import Heartbeat, RequestVote, RequestVoteReply, Role
from tests.unit.month5.raft.cluster import PLAIN, leader, node, settle


def test_a_node_begins_as_a_follower() -> None:
    """'When servers start up, they begin as followers.'"""
    assert node().role is Role.FOLLOWER


def test_a_follower_that_hears_nothing_stands_for_election() -> None:
    """After its time-out it raises its term, votes for itself and asks all others."""
    raft = node()
    for _ in range(2 * PLAIN.election_ticks):
        raft.tick()
        if raft.role is Role.CANDIDATE:
            break
    status = raft.status()
    assert (status.term, status.vote) == (1, 1)
    assert settle(raft) == [RequestVote(1, 2, 1, 0, 0), RequestVote(1, 3, 1, 0, 0)]


def test_no_follower_stands_before_the_shortest_time_out() -> None:
    """However it is drawn."""
    for number in range(1, 30):
        raft = node(number, voters=tuple(range(1, 30)))
        for _ in range(PLAIN.election_ticks - 1):
            raft.tick()
        assert raft.role is Role.FOLLOWER


def test_a_follower_that_hears_its_leader_waits_again() -> None:
    """Heartbeats keep the leader's authority."""
    raft = node()
    for _ in range(5 * PLAIN.election_ticks):
        raft.tick()
        raft.step(Heartbeat(2, 1, 1, 0, 1))
    assert raft.role is Role.FOLLOWER


def test_time_outs_are_drawn_anew_and_differ() -> None:
    """'Raft uses randomized election timeouts': across elections nearly all of the range."""
    raft, waits, waited = node(), set[int](), 0
    for _ in range(1_000):
        term = raft.term
        raft.tick()
        waited += 1
        if raft.term > term:
            waits.add(waited)
            waited = 0
    assert waits <= set(range(PLAIN.election_ticks, 2 * PLAIN.election_ticks))
    assert len(waits) > PLAIN.election_ticks // 2


@pytest.mark.parametrize(
    ("voters", "yes", "no", "role"),
    [
        (3, 0, 0, Role.CANDIDATE),
        (3, 1, 0, Role.LEADER),
        (3, 1, 1, Role.LEADER),
        (3, 0, 2, Role.FOLLOWER),
        (4, 1, 0, Role.CANDIDATE),
        (4, 2, 0, Role.LEADER),
        (5, 1, 0, Role.CANDIDATE),
        (5, 2, 2, Role.LEADER),
        (5, 1, 3, Role.FOLLOWER),
        (1, 0, 0, Role.LEADER),
    ],
)
def test_a_candidate_leads_with_a_majority_of_all_voters(
    voters: int, yes: int, no: int, role: Role
) -> None:
    """yes and no: answers beside its own vote."""
    raft = node(voters=tuple(range(1, voters + 1)))
    raft.campaign()
    for peer in range(2, 2 + yes + no):
        raft.step(RequestVoteReply(peer, 1, raft.term, peer < 2 + yes))
    assert raft.role is role


def test_the_same_vote_twice_counts_once() -> None:
    """A message that was repeated elects nobody."""
    raft = node(voters=(1, 2, 3, 4, 5))
    raft.campaign()
    for _ in range(3):
        raft.step(RequestVoteReply(2, 1, 1, True))
    assert raft.role is Role.CANDIDATE


def test_a_node_votes_for_one_candidate_a_term() -> None:
    """First come, first served; the same candidate gets the same answer again."""
    raft = node(3)
    for candidate in (1, 2, 1):
        raft.step(RequestVote(candidate, 3, 1, 0, 0))
    assert settle(raft) == [
        RequestVoteReply(3, 1, 1, True),
        RequestVoteReply(3, 2, 1, False),
        RequestVoteReply(3, 1, 1, True),
    ]


def test_a_vote_is_remembered_over_a_restart() -> None:
    """From disk."""
    raft = node(3, term=1, vote=1)
    raft.step(RequestVote(2, 3, 1, 0, 0))
    assert settle(raft) == [RequestVoteReply(3, 2, 1, False)]


def test_a_vote_waits_for_the_disk() -> None:
    """It leaves in `sends`, behind the hard state that must be synced."""
    raft = node(3)
    raft.step(RequestVote(1, 3, 1, 0, 0))
    ready = raft.ready()
    assert ready is not None
    assert (ready.must_sync, ready.sends_first) == (True, ())
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (1, 1)


def test_a_candidate_follows_who_leads_its_term() -> None:
    """'If the leader's term is at least as large, the candidate recognizes it.'"""
    raft = node()
    raft.campaign()
    raft.step(Heartbeat(2, 1, 1, 0, 1))
    assert (raft.role, raft.leader) == (Role.FOLLOWER, 2)


def test_a_leader_says_so_at_every_heartbeat() -> None:
    """To everyone, to prevent new elections."""
    raft = leader()
    for _ in range(PLAIN.heartbeat_ticks):
        raft.tick()
    beats = [message for message in settle(raft) if isinstance(message, Heartbeat)]
    assert [beat.to for beat in beats] == [2, 3]
