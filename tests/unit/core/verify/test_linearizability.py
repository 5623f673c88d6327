"""The checker of histories: silent on what one copy could have done, loud on what it could not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from random import Random

import pytest

from scalelab.lab.verify import Check, linearizable


@dataclass(frozen=True, slots=True)
class Did:
    """A call on a register: `w` writes value, `r` has read it. end None: no answer."""

    verb: str
    value: int
    called_at: float
    returned_at: float | None


def apply(state: int, call: Did) -> int | None:
    """The register after the call, or None if it could not have answered so."""
    if call.verb == "w":
        return call.value
    return state if call.returned_at is None or state == call.value else None


def needs(call: Did) -> int | None:
    """A read needs its value."""
    return call.value if call.verb == "r" and call.returned_at is not None else None


def makes(call: Did) -> int | None:
    """A write makes its value."""
    return call.value if call.verb == "w" else None


def _nothing(_: Did) -> int | None:
    """No hint."""


def judged(*calls: Did, steps_max: int = 100_000) -> Check:
    """The verdict on one register that starts as 0."""
    return linearizable(
        "register", calls, initial=0, apply=apply, key=lambda _: "x", steps_max=steps_max
    )


LEGAL = {
    "one after another": (Did("w", 1, 0, 1), Did("r", 1, 2, 3)),
    "a read during a write sees the old value": (Did("w", 1, 0, 9), Did("r", 0, 1, 2)),
    "a read during a write sees the new value": (Did("w", 1, 0, 9), Did("r", 1, 1, 2)),
    "a write without an answer happened": (Did("w", 1, 0, None), Did("r", 1, 5, 6)),
    "a write without an answer did not happen": (Did("w", 1, 0, None), Did("r", 0, 5, 6)),
    "it happened late": (Did("w", 1, 0, None), Did("r", 0, 5, 6), Did("r", 1, 7, 8)),
}
ILLEGAL = {
    "a stale read after a write": (Did("w", 1, 0, 1), Did("r", 0, 2, 3)),
    "a lost write": (Did("w", 1, 0, 1), Did("w", 2, 2, 3), Did("r", 1, 4, 5)),
    "reads that go back": (Did("w", 1, 0, 9), Did("r", 1, 1, 2), Did("r", 0, 3, 4)),
    "a value out of nowhere": (Did("r", 7, 0, 1),),
    "a read before the write began": (Did("r", 1, 0, 1), Did("w", 1, 2, 3)),
    "two readers disagree about the order of two writes": (
        Did("w", 1, 0, 1),
        Did("w", 2, 0, 1),
        Did("r", 1, 2, 3),
        Did("r", 2, 4, 5),
        Did("r", 1, 6, 7),
    ),
    "an unanswered write comes and goes": (
        Did("w", 1, 0, None),
        Did("r", 1, 1, 2),
        Did("r", 0, 3, 4),
    ),
}


@pytest.mark.parametrize("calls", LEGAL.values(), ids=LEGAL.keys())
def test_what_one_copy_could_have_done_is_legal(calls: tuple[Did, ...]) -> None:
    """No false alarm."""
    check = judged(*calls)
    assert check.violations == ()
    assert check.examined == len(calls)


@pytest.mark.parametrize("calls", ILLEGAL.values(), ids=ILLEGAL.keys())
def test_a_planted_violation_is_found(calls: tuple[Did, ...]) -> None:
    """Each kind, and the report names a call that does not fit."""
    (violation,) = judged(*calls).violations
    assert "none of these fits" in violation.detail


def test_keys_are_judged_one_by_one() -> None:
    """The bad key is named; the good one beside it is not."""
    calls = [("a", one) for one in LEGAL["one after another"]]
    calls += [("b", one) for one in ILLEGAL["a lost write"]]
    where = {id(one): key for key, one in calls}
    check = linearizable(
        "register",
        [one for _, one in calls],
        initial=0,
        apply=apply,
        key=lambda call: where[id(call)],
    )
    assert [violation.ids for violation in check.violations] == [("b",)]


def test_a_history_that_takes_too_long_to_judge_counts_as_failed() -> None:
    """Unknown is not legal."""
    calls = [Did("w", number, 0, 100) for number in range(1, 13)]
    (violation,) = judged(*calls, Did("r", 99, 0, 100), steps_max=50).violations
    assert violation.detail.startswith("unknown")


def legal_by_brute_force(calls: list[Did]) -> bool:
    """Try every order of every choice of the calls without an answer."""
    answered = [call for call in calls if call.returned_at is not None]
    silent = [call for call in calls if call.returned_at is None]
    for chosen in range(1 << len(silent)):
        happened = answered + [call for i, call in enumerate(silent) if chosen >> i & 1]
        for order in permutations(happened):
            if _in_time(order) and _answers(order):
                return True
    return False


def _in_time(order: tuple[Did, ...]) -> bool:
    return not any(
        later.returned_at is not None and later.returned_at < earlier.called_at
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def _answers(order: tuple[Did, ...]) -> bool:
    state: int | None = 0
    for call in order:
        state = apply(state, call)
        if state is None:
            return False
    return True


@pytest.mark.parametrize("hinted", [False, True])
def test_it_agrees_with_a_dumb_checker_on_random_histories(hinted: bool) -> None:
    """600 small histories, legal and not, values repeated and not, with and without the hints."""
    random = Random(f"histories {hinted}")
    verdicts: set[bool] = set()
    for _ in range(600):
        calls: list[Did] = []
        for _ in range(random.randrange(1, 6)):
            start = random.randrange(8)
            end = None if random.random() < 0.25 else start + random.randrange(1, 6)
            calls.append(Did(random.choice("wrr"), random.randrange(3), start, end))
        check = linearizable(
            "register",
            calls,
            initial=0,
            apply=apply,
            key=lambda _: 0,
            needs=needs if hinted else _nothing,
            makes=makes if hinted else _nothing,
        )
        expected = legal_by_brute_force(calls)
        assert (not check.violations) is expected, calls
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_twenty_five_concurrent_writes_are_judged_with_hints() -> None:
    """What one reader saw of them fixes only the last one."""
    writes = [Did("w", number, 0, 10) for number in range(1, 26)]
    reads = [Did("r", 13, 11, 12), Did("r", 13, 13, 14)]
    check = linearizable(
        "register",
        [*writes, *reads],
        initial=0,
        apply=apply,
        key=lambda _: 0,
        needs=needs,
        makes=makes,
        steps_max=20_000,
    )
    assert check.violations == ()
