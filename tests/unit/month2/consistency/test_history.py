"""The checker: silent on what every good store could have done, loud on each planted violation."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.consistency import (
    History,
    Operation,
    Promise,
    Read,
    Write,
    broken_promises,
    count_by_promise,
)
from scalelab.errors import InvalidInput


def promises(history: History) -> set[Promise]:
    """Which promises a history breaks."""
    return {one.promise for one in broken_promises(history)}


def test_an_own_write_that_is_not_seen_breaks_read_your_writes() -> None:
    """Written as 2, read as 1."""
    history = {"other": [Write("x", 1)], "me": [Write("x", 2), Read("x", 1)]}
    assert promises(history) == {Promise.READ_YOUR_WRITES}


def test_a_read_that_steps_back_breaks_monotonic_reads() -> None:
    """Seen as 2, then as 1."""
    history = {"one": [Write("x", 1)], "two": [Write("x", 2)], "me": [Read("x", 2), Read("x", 1)]}
    assert promises(history) == {Promise.MONOTONIC_READS}


def test_seeing_the_second_write_without_the_first_breaks_monotonic_writes() -> None:
    """The reader has the later write of a session, and not the earlier one."""
    history = {"writer": [Write("x", 1), Write("y", 1)], "me": [Read("y", 1), Read("x", 0)]}
    assert promises(history) == {Promise.MONOTONIC_WRITES}


def test_a_write_that_loses_to_an_earlier_one_of_its_own_session_breaks_monotonic_writes() -> None:
    """A clock was set back between the two."""
    history = {"me": [Write("x", 200), Write("x", 100)]}
    assert promises(history) == {Promise.MONOTONIC_WRITES}


def test_seeing_an_answer_without_the_question_breaks_writes_follow_reads() -> None:
    """The answer's writer had read the question."""
    history = {
        "asker": [Write("question", 1)],
        "answerer": [Read("question", 1), Write("answer", 1)],
        "me": [Read("answer", 1), Read("question", 0)],
    }
    assert promises(history) == {Promise.WRITES_FOLLOW_READS}


def test_a_write_that_loses_to_what_its_writer_had_read_breaks_writes_follow_reads() -> None:
    """An answer by a clock that runs behind."""
    history = {"fast": [Write("x", 500)], "slow": [Read("x", 500), Write("x", 300)]}
    assert promises(history) == {Promise.WRITES_FOLLOW_READS}


def test_a_chain_over_two_others_breaks_causality_and_no_named_promise() -> None:
    """a is known to the writer of b, b to the writer of c: who sees c must see a."""
    history = {
        "first": [Write("a", 1)],
        "second": [Read("a", 1), Write("b", 1)],
        "third": [Read("b", 1), Write("c", 1)],
        "me": [Read("c", 1), Read("a", 0)],
    }
    assert promises(history) == {Promise.CAUSAL}


def test_a_value_that_nobody_wrote_is_reported() -> None:
    """Reads return writes."""
    assert promises({"me": [Read("x", 9)]}) == {Promise.WRITTEN}


def test_a_write_seen_before_its_own_cause_is_a_circle() -> None:
    """Each of two sessions saw the other's write before making its own."""
    history = {
        "one": [Read("y", 1), Write("x", 1)],
        "two": [Read("x", 1), Write("y", 1)],
    }
    assert promises(history) == {Promise.CAUSAL}


def test_the_place_of_a_violation_is_named() -> None:
    """Session, number of the operation, both versions."""
    [found] = broken_promises({"other": [Write("x", 1)], "me": [Write("x", 2), Read("x", 1)]})
    assert (found.session, found.index) == ("me", 1)
    assert "version 1" in found.why
    assert "version 2" in found.why


def test_concurrent_writes_may_be_seen_in_one_order_by_all() -> None:
    """Who sees neither cause nor effect is owed nothing: old reads alone break no promise."""
    history = {
        "writer": [Write("x", 1), Write("x", 2)],
        "late": [Read("x", 1), Read("x", 1), Read("x", 2)],
        "blind": [Read("x", 0), Read("x", 0)],
    }
    assert broken_promises(history) == []


@pytest.mark.parametrize(
    "history",
    [{"a": [Write("x", 1)], "b": [Write("x", 1)]}, {"a": [Write("x", 0)]}],
)
def test_a_history_without_a_version_order_is_refused(history: History) -> None:
    """Two writes of one version, or a write of the version that means nothing."""
    with pytest.raises(InvalidInput):
        broken_promises(history)


def sequential(random: Random, *, steps: int) -> dict[str, list[Operation]]:
    """A history of three sessions on one copy of everything: the strongest store there is."""
    history: dict[str, list[Operation]] = {"a": [], "b": [], "c": []}
    store = dict.fromkeys("xyz", 0)
    for _ in range(steps):
        session, key = random.choice("abc"), random.choice("xyz")
        if random.random() < 0.4:
            store[key] += 1
            history[session].append(Write(key, store[key]))
        else:
            history[session].append(Read(key, store[key]))
    return history


@given(random=st.randoms(use_true_random=False), steps=st.integers(0, 60))
def test_one_copy_breaks_no_promise(random: Random, steps: int) -> None:
    """Whatever three sessions do on a single copy, the checker has nothing to say."""
    assert broken_promises(sequential(random, steps=steps)) == []


@given(random=st.randoms(use_true_random=False))
def test_an_old_read_planted_into_a_good_history_is_found(random: Random) -> None:
    """A session that re-reads what it had read is shown the version before: one violation more."""
    history = sequential(random, steps=40)
    history["planted"] = [Write("p", 1), Write("p", 2)]
    history["a"] += [Read("p", 2), Read("p", 1)]
    counts = count_by_promise(broken_promises(history))
    assert counts[Promise.MONOTONIC_READS] == 1
