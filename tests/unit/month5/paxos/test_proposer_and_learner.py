"""What a proposer may propose and when a learner knows: one test a rule (2.2, 2.3 and 2.4)."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from month5_kvstore.paxos import (
    Accept,
    Accepted,
    Ballot,
    Instance,
    Learner,
    Patience,
    Phase,
    Prepare,
    Promise,
    Proposal,
    Proposer,
    ProposerRecord,
    Refused,
    Send,
    Store,
    begin,
    hear,
    learn,
    majority,
)
from scalelab.errors import InvalidInput

FIRST = Ballot(1, 7)


def preparing(*, round: int = 0) -> Proposer:
    """Proposer 7 of three acceptors, its first ballot begun."""
    return begin(Proposer(7, (1, 2, 3), "own", round=round))[0]


def promise(sender: int, accepted: Proposal | None = None, *, ballot: Ballot = FIRST) -> Promise:
    """To proposer 7."""
    return Promise(sender, 7, ballot, accepted)


def asked(*promises: Promise) -> tuple[str, ...]:
    """The values in the Accepts that follow from these."""
    proposer, values = preparing(round=promises[0].ballot.round - 1), list[str]()
    for message in promises:
        proposer, effects = hear(proposer, message)
        sent = [effect.message for effect in effects if isinstance(effect, Send)]
        values += [m.proposal.value for m in sent if isinstance(m, Accept)]
    return tuple(values)


def test_a_ballot_begins_with_a_number_on_disk_and_a_question_to_all() -> None:
    """N and 1a, in this order: a number used before it is stored may be used again."""
    _, effects = begin(Proposer(7, (1, 2), "own", round=3))
    prepares = tuple(Send(Prepare(7, to, Ballot(4, 7))) for to in (1, 2))
    assert effects == (Store(ProposerRecord(4)), *prepares)


def test_a_restart_uses_no_number_again() -> None:
    """N: the next round is above the one on disk."""
    again = Proposer(7, (1, 2, 3), "another", round=ProposerRecord(4).round)
    assert begin(again)[0].ballot == Ballot(5, 7)


def test_less_than_a_majority_of_promises_is_not_enough() -> None:
    """2a."""
    assert asked(promise(1)) == ()


def test_the_choice_is_free_if_a_majority_accepted_nothing() -> None:
    """2a: every acceptor is asked to accept the proposer's own value."""
    assert asked(promise(1), promise(2)) == ("own",) * 3


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_the_value_of_the_highest_reported_proposal_is_taken(order: tuple[int, ...]) -> None:
    """2a and P2c, in whatever order the answers come."""
    reports = {1: None, 2: Proposal(Ballot(1, 9), "old"), 3: Proposal(Ballot(2, 8), "newer")}
    ballot = Ballot(4, 7)
    values = asked(*(promise(sender, reports[sender], ballot=ballot) for sender in order))
    first_two = [reports[sender] for sender in order[:2]]
    highest = max((report for report in first_two if report), key=lambda report: report.ballot)
    assert set(values) == {highest.value}


def test_a_repeated_promise_counts_once() -> None:
    """The network repeats messages; acceptors are counted, not answers."""
    assert asked(promise(1), promise(1)) == ()


def test_a_promise_of_an_earlier_ballot_counts_for_nothing() -> None:
    """It says nothing of what was accepted since."""
    proposer = preparing(round=1)
    assert hear(proposer, promise(1, ballot=FIRST)) == (proposer, ())


def test_a_late_promise_does_not_change_what_was_proposed() -> None:
    """One number, one value."""
    late = promise(3, Proposal(Ballot(0, 9), "late"))
    assert asked(promise(1), promise(2), late) == ("own",) * 3


def test_a_refused_ballot_is_given_up_and_the_next_is_above_the_one_in_its_way() -> None:
    """A, end of 2.2."""
    proposer, effects = hear(preparing(), Refused(1, 7, FIRST, Ballot(6, 9)))
    assert (proposer.phase, effects) == (Phase.IDLE, ())
    assert begin(proposer)[0].ballot > Ballot(6, 9)


def test_a_refusal_of_an_earlier_ballot_changes_nothing() -> None:
    """It is old news."""
    proposer = preparing(round=1)
    assert hear(proposer, Refused(1, 7, FIRST, Ballot(6, 9))) == (proposer, ())


@pytest.mark.parametrize(("acceptors", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_any_two_majorities_share_an_acceptor(acceptors: int, needed: int) -> None:
    """On which everything stands."""
    assert majority(acceptors) == needed
    assert 2 * needed > acceptors


def test_a_learner_knows_exactly_when_a_majority_accepted_one_ballot() -> None:
    """L: all sequences of up to four acceptances, by three acceptors, of two ballots."""
    ballots = {Ballot(1, 8): "a", Ballot(2, 9): "b"}
    heard = [Accepted(a, 0, Proposal(b, v)) for a in (1, 2, 3) for b, v in ballots.items()]
    for length in range(5):
        for sequence in itertools.product(heard, repeat=length):
            learner, expected = Learner(0, 3), None
            votes: dict[Ballot, set[int]] = {ballot: set() for ballot in ballots}
            for message in sequence:
                learner = learn(learner, message)
                votes[message.proposal.ballot].add(message.sender)
                full = [ballots[ballot] for ballot, voters in votes.items() if len(voters) > 1]
                expected = expected or (full[0] if full else None)
            assert learner.chosen == expected


def test_the_same_value_under_two_numbers_is_not_chosen() -> None:
    """L: two acceptors, one value, but no ballot with a majority; a third may undo it."""
    learner = Learner(0, 3)
    for sender, ballot in ((1, Ballot(1, 8)), (2, Ballot(2, 9))):
        learner = learn(learner, Accepted(sender, 0, Proposal(ballot, "same")))
    assert learner.chosen is None


def test_pauses_grow_and_differ() -> None:
    """2.4: each is drawn from one to two times a base that doubles."""
    pauses = [Patience(100).pause_us(ballot, Random(1)) for ballot in (1, 2, 3)]
    assert all(100 << n <= pause < 200 << n for n, pause in enumerate(pauses))
    assert len({Patience(100).pause_us(1, Random(seed)) for seed in range(20)}) > 10


def test_an_instance_in_which_nothing_can_happen_is_refused() -> None:
    """Bad input."""
    with pytest.raises(InvalidInput):
        Instance(begins=0)
