"""The upstream's breaker decides what the pure machine decides, although it counts by itself."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from month1_caching_gateway.gateway.upstream_breaker import Permit, UpstreamBreaker
from scalelab.clock import ManualClock
from scalelab.errors import BreakerOpen
from scalelab.resilience import BreakerPolicy
from scalelab.resilience.circuit_breaker import Breaker, Outcome, answer, ask

POLICY = BreakerPolicy(failure_ratio=0.5, min_calls=2, window_s=1.0, open_s=0.5, probes=2)
OUTCOMES = {True: Outcome.SUCCESS, False: Outcome.FAILURE, None: Outcome.NEUTRAL}

calls = st.tuples(st.just("call"), st.integers(1, 6))
ends = st.tuples(st.just("end"), st.sampled_from([True, True, True, False, False, None]))
waits = st.tuples(st.just("wait"), st.sampled_from([0.01, 0.05, 0.11, 0.4, 1.2]))


@example([("call", 5), ("end", True), ("end", True), ("end", True), ("end", False), ("end", False)])
@given(st.lists(st.one_of(calls, ends, ends, ends, waits), max_size=80))
def test_it_admits_and_refuses_exactly_as_the_machine_does(steps: list[tuple[str, object]]) -> None:
    """Any mixture of calls under way, late answers and pauses."""
    clock = ManualClock()
    changes: list[object] = []
    ours, theirs = UpstreamBreaker("app", POLICY, clock, changes.append), Breaker()
    out: list[tuple[Permit, int]] = []
    for kind, value in steps:
        now_s = clock.monotonic_s()
        if kind == "wait":
            assert isinstance(value, float)
            clock.advance(value)
        elif kind == "end" and out:
            assert value is None or isinstance(value, bool)
            permit, generation = out.pop(0)
            permit.report(ok=value)
            theirs = answer(theirs, POLICY, generation, OUTCOMES[value], now_s=now_s)
        elif kind == "call":
            assert isinstance(value, int)
            for _ in range(value):
                theirs, admission = ask(theirs, POLICY, now_s=now_s)
                try:
                    permit = ours.admit()
                except BreakerOpen as refused:
                    assert not admission.admitted
                    assert refused.retry_after_s == admission.retry_after_s  # noqa: PT017
                else:
                    assert admission.admitted
                    out.append((permit, admission.generation))
        assert ours.phase is theirs.phase
