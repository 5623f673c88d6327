"""Section 6, cluster membership changes; learners; leadership transfer (thesis 3.10)."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import (
    AppendEntries,
    AppendEntriesReply,
    ChangeRefused,
    Configuration,
    Heartbeat,
    Raft,
    RequestVote,
    RequestVoteReply,
    Role,
    Settings,
    TimeoutNow,
)
from scalelab.errors import InvalidInput, Unavailable
from tests.unit.month5.raft.cluster import PLAIN, leader, node, settle


def _acknowledge(raft: Raft, *peers: int) -> None:
    """These followers have everything."""
    for peer in peers:
        raft.step(AppendEntriesReply(peer, 1, raft.term, raft.last_index))
    settle(raft)


def _steady(**options: object) -> Raft:
    raft = leader(**options)
    _acknowledge(raft, 2)
    return raft


def test_one_voter_more_is_one_entry_and_in_force_at_once() -> None:
    """Thesis 4.1: the leader uses the new configuration as soon as it is in its log."""
    raft = _steady()
    raft.change_members((1, 2, 3, 4))
    assert raft.status().configuration == Configuration((1, 2, 3, 4))


def test_several_voters_change_through_a_joint_configuration() -> None:
    """Both sides are needed meanwhile."""
    raft = _steady()
    raft.change_members((1, 4, 5))
    assert raft.status().configuration == Configuration((1, 4, 5), (1, 2, 3))


@pytest.mark.parametrize(("peers", "committed"), [((4, 5), False), ((2, 3), False), ((2, 4), True)])
def test_a_joint_entry_needs_both_majorities(peers: tuple[int, ...], *, committed: bool) -> None:
    """Of the old voters and of the new ones."""
    raft = _steady()
    index = raft.change_members((1, 4, 5))
    settle(raft)
    for peer in peers:
        raft.step(AppendEntriesReply(peer, 1, raft.term, index))
    assert (raft.committed >= index) is committed


def test_the_leader_ends_a_joint_change_once_it_is_committed() -> None:
    """By a second entry, of the new voters alone."""
    raft = _steady()
    raft.change_members((1, 4, 5))
    settle(raft)
    _acknowledge(raft, 2, 4)
    assert raft.status().configuration == Configuration((1, 4, 5))


def test_a_second_change_waits_for_the_first() -> None:
    """Or two majorities that never met could each commit."""
    raft = _steady()
    raft.change_members((1, 2, 3, 4))
    with pytest.raises(ChangeRefused):
        raft.change_members((1, 2, 3))


def test_a_new_leader_changes_nothing_before_it_has_committed() -> None:
    """The known hole of changes by one voter, and its repair."""
    with pytest.raises(ChangeRefused):
        leader().change_members((1, 2))


def test_a_learner_is_sent_entries_and_counts_for_nothing() -> None:
    """Neither for commits nor for elections."""
    raft = _steady(learners=(4,))
    _acknowledge(raft, 4)
    index = raft.propose(b"a")
    assert 4 in {m.to for m in settle(raft) if isinstance(m, AppendEntries)}
    raft.step(AppendEntriesReply(4, 1, raft.term, index))
    assert raft.committed < index


def test_a_learner_never_stands_for_election() -> None:
    """However long it hears nothing."""
    raft = node(4, learners=(4,))
    for _ in range(5 * PLAIN.election_ticks):
        raft.tick()
    assert (raft.role, raft.term) == (Role.FOLLOWER, 0)


def test_who_hears_a_leader_disregards_other_candidates() -> None:
    """The end of section 6: a removed server must not disturb the group."""
    raft = node(2, settings=Settings(pre_vote=False))
    raft.step(Heartbeat(1, 2, 1, 0, 1))
    settle(raft)
    raft.step(RequestVote(3, 2, 9, 0, 0))
    assert settle(raft) == []
    assert raft.term == 1


def test_a_leader_that_hears_no_majority_steps_down() -> None:
    """Check-quorum (thesis 6.2)."""
    raft = leader(settings=Settings(pre_vote=False))
    for _ in range(3 * PLAIN.election_ticks):
        raft.tick()
    assert raft.role is not Role.LEADER


def test_a_pre_candidate_raises_no_term() -> None:
    """Thesis 9.6: it asks whether it could win, and stays in its term if not."""
    raft = node(settings=Settings())
    raft.campaign()
    assert settle(raft) == [RequestVote(1, p, 1, 0, 0, pre=True) for p in (2, 3)]
    for peer in (2, 3):
        raft.step(RequestVoteReply(peer, 1, 0, False, pre=True))
    assert (raft.term, raft.role) == (0, Role.FOLLOWER)


def test_leadership_goes_to_whoever_is_up_to_date_at_once() -> None:
    """TimeoutNow is sent; proposals are refused meanwhile."""
    raft = _steady()
    raft.transfer_leadership(2)
    assert TimeoutNow(1, 2, raft.term) in settle(raft)
    with pytest.raises(Unavailable):
        raft.propose(b"a")


def test_leadership_waits_until_the_successor_has_caught_up() -> None:
    """Or it could not win."""
    raft = _steady()
    raft.propose(b"a")
    raft.transfer_leadership(2)
    assert not any(isinstance(m, TimeoutNow) for m in settle(raft))
    raft.step(AppendEntriesReply(2, 1, raft.term, raft.last_index))
    assert any(isinstance(m, TimeoutNow) for m in settle(raft))


def test_a_transfer_is_given_up_after_a_time_out() -> None:
    """The leader takes proposals again."""
    raft = _steady()
    raft.transfer_leadership(2)
    for _ in range(PLAIN.election_ticks):
        raft.tick()
    assert raft.propose(b"a") == 2


@pytest.mark.parametrize("to", [1, 9])
def test_leadership_goes_to_other_voters_only(to: int) -> None:
    """Neither to itself nor to a stranger."""
    with pytest.raises(InvalidInput):
        _steady().transfer_leadership(to)
