"""Claims about the breaker that obeys (pure)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.client.patient_breaker import Breaker, Reply, ask, told
from scalelab.resilience import BreakerPolicy, Phase
from scalelab.resilience.circuit_breaker import Outcome

POLICY = BreakerPolicy(min_calls=10, open_s=1.0, probes=1)
LEAVE = Reply(Outcome.FAILURE, 8.0)
FINE = Reply(Outcome.SUCCESS)


def test_one_statement_is_enough_and_names_the_time() -> None:
    """P1: nothing before it, one probe after it."""
    breaker, admission = ask(Breaker(), POLICY, now_s=0.0)
    breaker = told(breaker, POLICY, admission.generation, LEAVE, now_s=0.0)
    breaker, refused = ask(breaker, POLICY, now_s=7.5)
    assert (refused.admitted, refused.retry_after_s) == (False, 0.5)
    breaker, probe = ask(breaker, POLICY, now_s=8.0)
    breaker, second = ask(breaker, POLICY, now_s=8.0)
    assert (probe.admitted, second.admitted) == (True, False)
    breaker = told(breaker, POLICY, probe.generation, FINE, now_s=8.0)
    assert breaker.phase is Phase.CLOSED


def test_without_a_statement_it_is_the_machine_below() -> None:
    """One failure, or a Retry-After of 0, is a sign and opens nothing."""
    for reply in (Reply(Outcome.FAILURE), Reply(Outcome.FAILURE, 0.0)):
        breaker, admission = ask(Breaker(), POLICY, now_s=0.0)
        breaker = told(breaker, POLICY, admission.generation, reply, now_s=0.0)
        assert breaker.phase is Phase.CLOSED


@given(waits=st.lists(st.floats(0.01, 60.0), min_size=1, max_size=8))
def test_of_several_statements_the_latest_time_counts(waits: list[float]) -> None:
    """P1 and P2: answers that were under way when it opened still count."""
    breaker, admission = ask(Breaker(), POLICY, now_s=0.0)
    for wait_s in waits:
        reply = Reply(Outcome.FAILURE, wait_s)
        breaker = told(breaker, POLICY, admission.generation, reply, now_s=0.0)
    assert not ask(breaker, POLICY, now_s=max(waits) * 0.999)[1].admitted
    assert ask(breaker, POLICY, now_s=max(waits) * 1.001)[1].admitted


def test_a_late_success_does_not_end_what_was_asked_for() -> None:
    """P2: an answer of an older generation that is no statement changes nothing."""
    breaker, admission = ask(Breaker(), POLICY, now_s=0.0)
    breaker = told(breaker, POLICY, admission.generation, LEAVE, now_s=0.0)
    assert told(breaker, POLICY, admission.generation, FINE, now_s=0.1) == breaker
