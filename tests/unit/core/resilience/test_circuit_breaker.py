"""The breaker's phases by hand, its invariants by any history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scalelab.resilience.circuit_breaker import (
    Breaker,
    BreakerPolicy,
    Outcome,
    Phase,
    answer,
    ask,
)

POLICY = BreakerPolicy(failure_ratio=0.5, min_calls=4, window_s=10.0, open_s=2.0, probes=2)


def after(outcomes: list[Outcome], *, now_s: float = 0.0, step_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for outcome in outcomes:
        breaker, admission = ask(breaker, POLICY, now_s=now_s)
        breaker = answer(breaker, POLICY, admission.generation, outcome, now_s=now_s)
        now_s += step_s
    return breaker


def test_it_opens_when_half_of_enough_calls_failed() -> None:
    """Four calls, two failures, the last one a failure: open."""
    assert after([Outcome.SUCCESS] * 2 + [Outcome.FAILURE] * 2).phase is Phase.OPEN


def test_it_stays_closed_below_the_least_number_of_calls() -> None:
    """I5: three failures of three calls are too few to judge by."""
    assert after([Outcome.FAILURE] * 3).phase is Phase.CLOSED


def test_failures_that_left_the_window_are_forgotten() -> None:
    """Failures spread wider than the window never sum up."""
    assert after([Outcome.FAILURE] * 50, step_s=4.0).phase is Phase.CLOSED


def test_open_refuses_and_says_when_to_come_back() -> None:
    """I1: refused with the seconds left, admitted as a probe afterwards."""
    breaker = after([Outcome.FAILURE] * 4)
    breaker, refusal = ask(breaker, POLICY, now_s=0.5)
    assert (refusal.admitted, refusal.retry_after_s) == (False, 1.5)
    breaker, probe = ask(breaker, POLICY, now_s=2.0)
    assert probe.admitted
    assert breaker.phase is Phase.HALF_OPEN


def test_enough_good_probes_close_it_with_an_empty_window() -> None:
    """Old failures do not count against a dependency that has recovered."""
    breaker = after([Outcome.FAILURE] * 4)
    for _ in range(2):
        breaker, probe = ask(breaker, POLICY, now_s=3.0)
        breaker = answer(breaker, POLICY, probe.generation, Outcome.SUCCESS, now_s=3.0)
    assert breaker.phase is Phase.CLOSED
    assert breaker.window == ()


def test_one_failed_probe_opens_it_for_a_full_period() -> None:
    """The clock of the open period starts anew."""
    breaker = after([Outcome.FAILURE] * 4)
    breaker, probe = ask(breaker, POLICY, now_s=3.0)
    breaker = answer(breaker, POLICY, probe.generation, Outcome.FAILURE, now_s=3.5)
    _, refusal = ask(breaker, POLICY, now_s=4.0)
    assert (refusal.admitted, refusal.retry_after_s) == (False, 1.5)


def test_a_slow_failure_from_before_says_nothing_now() -> None:
    """I4: an answer of an older generation does not reopen a half-open breaker."""
    breaker = Breaker()
    breaker, slow = ask(breaker, POLICY, now_s=0.0)
    for _ in range(4):
        breaker, admission = ask(breaker, POLICY, now_s=0.0)
        breaker = answer(breaker, POLICY, admission.generation, Outcome.FAILURE, now_s=0.0)
    breaker, _ = ask(breaker, POLICY, now_s=3.0)
    assert answer(breaker, POLICY, slow.generation, Outcome.FAILURE, now_s=3.0) is breaker


STEPS = st.one_of(
    st.floats(0, 3).map(lambda s: ("wait", s)),
    st.just(("ask", 0.0)),
    st.tuples(st.just("answer"), st.integers(0, 20)),
)


@given(st.lists(st.tuples(STEPS, st.sampled_from(Outcome)), max_size=120))
def test_the_invariants_hold_for_any_history(
    history: list[tuple[tuple[str, float], Outcome]],
) -> None:
    """I1, I2 and I3: refusals while open, probes bounded, no place ever lost."""
    breaker, now_s, out = Breaker(), 0.0, list[int]()
    for (step, number), outcome in history:
        if step == "wait":
            now_s += number
        elif step == "ask":
            was_open = breaker.phase is Phase.OPEN and now_s < breaker.opened_at_s + POLICY.open_s
            breaker, admission = ask(breaker, POLICY, now_s=now_s)
            assert not (was_open and admission.admitted)
            assert admission.admitted or admission.retry_after_s > 0
            if admission.admitted:
                out.append(admission.generation)
        elif out:
            generation = out.pop(int(number) % len(out))
            breaker = answer(breaker, POLICY, generation, outcome, now_s=now_s)
        if breaker.phase is Phase.HALF_OPEN:
            assert breaker.probes_out == out.count(breaker.generation) <= POLICY.probes
