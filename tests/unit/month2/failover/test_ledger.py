"""The account of every write, after a failover."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.failover import Attempt, Outcome, beyond, counts, judge
from scalelab.errors import InvalidInput

ACK, UNKNOWN, REFUSED = Outcome.ACKNOWLEDGED, Outcome.UNKNOWN, Outcome.REFUSED

attempts = st.lists(
    st.tuples(st.text("abcdef", min_size=1, max_size=3), st.sampled_from(list(Outcome))),
    unique_by=lambda pair: pair[0],
).map(lambda pairs: [Attempt(key, outcome) for key, outcome in pairs])


@given(attempts=attempts, found=st.lists(st.text("abcdef", min_size=1, max_size=3)))
def test_every_attempt_counts_once_and_a_clean_verdict_breaks_no_promise(
    attempts: list[Attempt], found: list[str]
) -> None:
    """I1 and I2 against a plain restatement of the rules."""
    verdict = judge(attempts, found)
    grouped = (
        verdict.kept
        + verdict.lost
        + verdict.unknown_kept
        + verdict.unknown_gone
        + verdict.refused_gone
        + verdict.ghosts
    )
    assert Counter(grouped) == Counter(one.key for one in attempts)
    outcome = {one.key: one.outcome for one in attempts}
    honest = (
        all(key in found for key, what in outcome.items() if what is ACK)
        and not any(outcome.get(key) in (REFUSED, None) for key in found)
        and len(set(found)) == len(found)
    )
    assert verdict.is_clean == honest


def test_an_unknown_write_may_be_there_or_not_but_not_twice() -> None:
    """Both are right answers to "outcome unknown"."""
    one = [Attempt("a", UNKNOWN)]
    assert judge(one, []).is_clean
    assert judge(one, ["a"]).is_clean
    assert judge(one, ["a", "a"]).duplicates == ("a",)


def test_what_was_refused_and_is_there_is_a_ghost() -> None:
    """ "Nothing was changed" was a lie."""
    verdict = judge([Attempt("a", REFUSED)], ["a"])
    assert verdict.ghosts == ("a",)
    assert not verdict.is_clean


def test_an_asynchronous_loss_lies_behind_the_fork() -> None:
    """Only acknowledged commits behind it count, in their order."""
    written = [Attempt(f"w{at}", ACK, lsn=at) for at in (100, 200, 300)]
    written.append(Attempt("u", UNKNOWN))
    assert beyond(written, 200) == ("w300",)
    assert beyond(written, 99) == ("w100", "w200", "w300")


def test_a_key_twice_or_an_acknowledged_write_without_lsn_is_refused() -> None:
    """Bad input is an error, not a verdict."""
    with pytest.raises(InvalidInput) as twice:
        judge([Attempt("a", ACK), Attempt("a", ACK)], [])
    assert twice.value.field == "key"
    with pytest.raises(InvalidInput) as bare:
        beyond([Attempt("a", ACK)], 1)
    assert bare.value.field == "lsn"


def test_the_numbers_of_a_verdict_are_its_lengths() -> None:
    """As a table shows them."""
    told = counts(judge([Attempt("a", ACK), Attempt("b", ACK), Attempt("c", REFUSED)], ["a", "z"]))
    assert (told["kept"], told["lost"], told["refused"], told["strangers"]) == (1, 1, 1, 1)
