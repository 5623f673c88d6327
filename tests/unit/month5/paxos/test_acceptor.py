"""What an acceptor promises and accepts: one test a rule (sections 2.2 and 2.5 of the paper)."""

from __future__ import annotations

import pytest

from month5_kvstore.paxos import (
    Accept,
    Accepted,
    Acceptor,
    AcceptorRecord,
    Ballot,
    Prepare,
    Promise,
    Proposal,
    Refused,
    Send,
    Store,
    answer,
)

LOW, MIDDLE, HIGH = Ballot(1, 8), Ballot(2, 7), Ballot(2, 9)
FRESH = Acceptor(1, learners=(5, 6))


def after(*messages: Prepare | Accept) -> Acceptor:
    """An acceptor that got these."""
    acceptor = FRESH
    for message in messages:
        acceptor, _ = answer(acceptor, message)
    return acceptor


def test_an_acceptor_accepts_the_first_proposal_that_it_gets() -> None:
    """P1."""
    proposal = Proposal(LOW, "a")
    acceptor, _ = answer(FRESH, Accept(8, 1, proposal))
    assert acceptor.record.accepted == proposal


def test_an_acceptor_accepts_nothing_below_what_it_promised() -> None:
    """P1a."""
    acceptor = after(Prepare(7, 1, MIDDLE))
    same, effects = answer(acceptor, Accept(8, 1, Proposal(LOW, "a")))
    assert (same, effects) == (acceptor, (Send(Refused(1, 8, LOW, MIDDLE)),))


@pytest.mark.parametrize("ballot", [MIDDLE, HIGH])
def test_an_acceptor_accepts_what_it_promised_and_anything_above(ballot: Ballot) -> None:
    """P1a: it accepts exactly if it has not promised a higher one."""
    acceptor, _ = answer(after(Prepare(7, 1, MIDDLE)), Accept(9, 1, Proposal(ballot, "a")))
    assert acceptor.record.accepted == Proposal(ballot, "a")


def test_to_accept_a_ballot_is_to_promise_it() -> None:
    """Else ballot 1 could be accepted after ballot 2 and be reported in its place."""
    acceptor = after(Accept(7, 1, Proposal(MIDDLE, "b")), Accept(8, 1, Proposal(LOW, "a")))
    assert acceptor.record == AcceptorRecord(MIDDLE, Proposal(MIDDLE, "b"))


def test_a_promise_reports_the_highest_proposal_accepted() -> None:
    """1b."""
    acceptor = after(Accept(8, 1, Proposal(LOW, "a")), Accept(7, 1, Proposal(MIDDLE, "b")))
    _, effects = answer(acceptor, Prepare(9, 1, HIGH))
    assert effects[-1] == Send(Promise(1, 9, HIGH, Proposal(MIDDLE, "b")))


def test_an_acceptor_promises_nothing_below_its_promise() -> None:
    """1b: and says what is in the way."""
    acceptor = after(Prepare(9, 1, HIGH))
    same, effects = answer(acceptor, Prepare(7, 1, MIDDLE))
    assert (same, effects) == (acceptor, (Send(Refused(1, 7, MIDDLE, HIGH)),))


def test_a_repeated_prepare_is_answered_again() -> None:
    """The first answer may be lost."""
    acceptor = after(Prepare(7, 1, MIDDLE))
    _, effects = answer(acceptor, Prepare(7, 1, MIDDLE))
    assert effects[-1] == Send(Promise(1, 7, MIDDLE, None))


def test_a_promise_is_on_disk_before_anybody_hears_of_it() -> None:
    """D."""
    _, effects = answer(FRESH, Prepare(7, 1, MIDDLE))
    assert effects == (Store(AcceptorRecord(MIDDLE)), Send(Promise(1, 7, MIDDLE, None)))


def test_an_acceptance_is_on_disk_before_any_learner_hears_of_it() -> None:
    """D."""
    proposal = Proposal(LOW, "a")
    _, effects = answer(FRESH, Accept(8, 1, proposal))
    told = tuple(Send(Accepted(1, learner, proposal)) for learner in (5, 6))
    assert effects == (Store(AcceptorRecord(LOW, proposal)), *told)


def test_a_restart_from_disk_keeps_the_promise() -> None:
    """Section 2.5: all that an acceptor must remember is its record."""
    acceptor = after(Prepare(7, 1, MIDDLE))
    again = Acceptor(acceptor.id, acceptor.learners, acceptor.record)
    assert again == acceptor


def test_numbers_of_two_proposers_are_never_equal_and_always_ordered() -> None:
    """N: by round, then by proposer."""
    assert LOW < MIDDLE < HIGH < Ballot(3, 1)
