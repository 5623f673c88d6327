"""Reads without a log entry: ReadIndex (thesis 6.4), and the lease that is off (6.4.1)."""

from __future__ import annotations

import pytest

from month5_kvstore.raft import (
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    NotLeader,
    Raft,
    ReadIndex,
    ReadIndexReply,
    ReadState,
    RequestVote,
    RequestVoteReply,
    Role,
    Settings,
)
from scalelab.errors import InvalidInput
from tests.unit.month5.raft.cluster import PLAIN, leader, node, settle

LEASED = Settings(pre_vote=False, lease_reads=True)


def perform(raft: Raft) -> tuple[list[Message], list[ReadState]]:
    """All that is to be done, on a perfect disk: what was sent, and which reads may be answered."""
    sent, reads = list[Message](), list[ReadState]()
    while (ready := raft.ready()) is not None:
        sent += [*ready.sends_first, *ready.sends]
        reads += ready.reads
        raft.advance(ready)
    return sent, reads


def steady(settings: Settings = PLAIN) -> Raft:
    """A leader in term 1 whose first entry is committed."""
    raft = leader(settings=settings)
    raft.step(AppendEntriesReply(2, 1, 1, 1))
    settle(raft)
    return raft


def asked(raft: Raft, context: int) -> int:
    """Ask for a read; the number of the round that is to confirm it."""
    raft.read(context)
    sent, reads = perform(raft)
    assert reads == []
    return max(message.round for message in sent if isinstance(message, Heartbeat))


def test_a_read_waits_until_a_majority_has_confirmed_its_leader() -> None:
    """6.4: the leader and one of two followers are a majority; before, nothing is answered."""
    raft = steady()
    round = asked(raft, 7)
    raft.step(HeartbeatReply(2, 1, 1, round))
    assert perform(raft)[1] == [ReadState(7, 1)]


def test_an_answer_to_an_earlier_heartbeat_confirms_nothing() -> None:
    """6.4: it was sent before the read, when there may have been no other leader yet."""
    raft = steady()
    round = asked(raft, 7)
    raft.step(HeartbeatReply(2, 1, 1, round - 1))
    assert perform(raft)[1] == []


def test_one_follower_that_answers_twice_is_no_majority_of_five() -> None:
    """Nodes are counted, not answers."""
    raft = node(voters=(1, 2, 3, 4, 5))
    raft.campaign()
    settle(raft)
    for voter in (2, 3):
        raft.step(RequestVoteReply(voter, 1, 1, True))
    settle(raft)
    for follower in (2, 3):
        raft.step(AppendEntriesReply(follower, 1, 1, 1))
    settle(raft)
    round = asked(raft, 7)
    for _ in range(2):
        raft.step(HeartbeatReply(2, 1, 1, round))
    assert perform(raft)[1] == []


def test_the_index_of_a_read_is_noted_when_it_is_asked() -> None:
    """6.4: what is committed afterwards need not be waited for."""
    raft = steady()
    raft.propose(b"not committed yet")
    round = asked(raft, 7)
    raft.step(AppendEntriesReply(2, 1, 1, 2))
    raft.step(HeartbeatReply(2, 1, 1, round))
    assert perform(raft)[1] == [ReadState(7, 1)]


def test_a_new_leader_answers_no_read_before_it_has_committed_in_its_term() -> None:
    """6.4, step 1: until then it does not know how far the log is committed."""
    raft = leader()
    raft.read(7)
    assert not any(isinstance(message, Heartbeat) for message in perform(raft)[0])
    raft.step(AppendEntriesReply(2, 1, 1, 1))
    rounds = [m.round for m in perform(raft)[0] if isinstance(m, Heartbeat)]
    raft.step(HeartbeatReply(2, 1, 1, max(rounds)))
    assert perform(raft)[1] == [ReadState(7, 1)]


def test_reads_that_arrive_together_share_a_round() -> None:
    """One heartbeat to each follower, however many reads."""
    raft = steady()
    for context in (7, 8, 9):
        raft.read(context)
    beats = [message for message in perform(raft)[0] if isinstance(message, Heartbeat)]
    assert len(beats) == 2
    raft.step(HeartbeatReply(3, 1, 1, beats[0].round))
    assert [read.context for read in perform(raft)[1]] == [7, 8, 9]


def test_a_leader_that_falls_tells_its_readers_to_ask_elsewhere() -> None:
    """Index None: its own unconfirmed reads are given up."""
    raft = steady()
    asked(raft, 7)
    raft.step(HeartbeatReply(2, 1, 5, 0))
    assert perform(raft)[1] == [ReadState(7, None)]


def test_a_follower_asks_its_leader_and_answers_at_the_index_it_is_told() -> None:
    """6.4, last paragraph: followers take load off the leader."""
    raft = node(2, term=1)
    raft.step(Heartbeat(1, 2, 1, 0, 1))
    settle(raft)
    raft.read(7)
    assert perform(raft)[0] == [ReadIndex(2, 1, 1, 7)]
    raft.step(ReadIndexReply(1, 2, 1, 7, 4))
    assert perform(raft)[1] == [ReadState(7, 4)]


def test_a_leader_confirms_itself_before_it_answers_a_follower() -> None:
    """The follower gets the index, not a read of the leader's own."""
    raft = steady()
    raft.step(ReadIndex(3, 1, 1, 7))
    rounds = [m.round for m in perform(raft)[0] if isinstance(m, Heartbeat)]
    raft.step(HeartbeatReply(2, 1, 1, max(rounds)))
    assert perform(raft) == ([ReadIndexReply(1, 3, 1, 7, 1)], [])


def test_who_knows_no_leader_refuses_a_read() -> None:
    """The caller is told at once."""
    with pytest.raises(NotLeader):
        node().read(7)


def leased() -> Raft:
    """A leader whose last round was confirmed at this very tick."""
    raft = steady(LEASED)
    round = asked(raft, 1)
    raft.step(HeartbeatReply(2, 1, 1, round))
    settle(raft)
    return raft


def test_a_fresh_lease_answers_without_a_round() -> None:
    """6.4.1."""
    raft = leased()
    raft.read(7)
    assert perform(raft) == ([], [ReadState(7, 1)])


@pytest.mark.parametrize(("ticks", "by_lease"), [(8, True), (9, False)])
def test_a_lease_ends_before_the_shortest_time_out_by_a_tenth(
    ticks: int, *, by_lease: bool
) -> None:
    """6.4.1: of ten ticks nine count; the tenth is for clocks that do not run alike."""
    raft = leased()
    for _ in range(ticks):
        raft.tick()
    settle(raft)
    raft.read(7)
    assert (perform(raft)[1] == [ReadState(7, 1)]) is by_lease


def test_a_lease_counts_from_the_question_not_from_the_answer() -> None:
    """A late answer promises patience from the moment at which the follower heard the question."""
    raft = steady(LEASED)
    round = asked(raft, 1)
    for _ in range(9):
        raft.tick()
    settle(raft)
    raft.step(HeartbeatReply(2, 1, 1, round))
    perform(raft)
    raft.read(7)
    assert perform(raft)[1] == []


def test_whoever_hears_a_leader_gives_nobody_else_its_vote() -> None:
    """6.4.1 stands on it (section 6, end): the request is not even heard."""
    raft = node(2, term=1, settings=LEASED)
    for _ in range(2):
        raft.step(Heartbeat(1, 2, 1, 0, 1))
        for _ in range(LEASED.election_ticks - 1):
            raft.tick()
    settle(raft)
    raft.step(RequestVote(3, 2, 2, 9, 9))
    assert (settle(raft), raft.term, raft.role) == ([], 1, Role.FOLLOWER)


def test_a_leader_that_has_asked_a_successor_reads_by_rounds() -> None:
    """The successor may stand at any time, and its voters need not wait."""
    raft = leased()
    raft.transfer_leadership(2)
    rounds = [0]
    for _ in range(LEASED.election_ticks):
        raft.tick()
        rounds += [m.round for m in perform(raft)[0] if isinstance(m, Heartbeat)]
        raft.step(HeartbeatReply(2, 1, 1, max(rounds)))
    raft.read(7)
    sent, reads = perform(raft)
    assert reads == []
    assert any(isinstance(message, Heartbeat) for message in sent)


def test_a_lease_without_the_quorum_check_is_refused() -> None:
    """Nobody would honour it."""
    with pytest.raises(InvalidInput):
        Settings(lease_reads=True, check_quorum=False)
