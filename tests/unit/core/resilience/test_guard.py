"""The guard composes its parts in one order, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from scalelab.clock import ManualClock
from scalelab.errors import (
    BreakerOpen,
    DeadlineExceeded,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)
from scalelab.resilience import (
    Backoff,
    BreakerPolicy,
    BudgetPolicy,
    Bulkhead,
    CallEnded,
    CallRetried,
    Deadline,
    Guard,
    GuardEvent,
    GuardMetrics,
    Phase,
    RetryPolicy,
    RetryRefused,
)


class Bench:
    """A guard in virtual time with a scripted dependency: errors to raise, then success."""

    def __init__(self, *script: ScalelabError, **options: object) -> None:
        self.clock = ManualClock()
        self.events: list[GuardEvent] = []
        self.waits: list[float] = []
        self.calls = 0
        self.script = list(script)
        settings: dict[str, object] = {
            "timeout_s": 60.0,
            "retry": RetryPolicy(attempts=3, backoff=Backoff(1.0, 2.0, 8.0)),
            **options,
        }
        self.guard = Guard(
            "peer",
            clock=self.clock,
            sleep=self.sleep,
            random_unit=lambda: 0.5,
            hooks=[self.events.append],
            **settings,  # pyright: ignore[reportArgumentType] (tests pass a subset by name)
        )

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    async def dependency(self) -> str:
        self.calls += 1
        if self.script:
            raise self.script.pop(0)
        return "answer"

    async def call(self, *, idempotent: bool = True) -> str:
        return await self.guard.call(self.dependency, idempotent=idempotent)


async def test_a_retryable_error_is_retried_with_full_jitter() -> None:
    """Half of the ceilings 1 s and 2 s, as the random source says, then the answer."""
    bench = Bench(Unavailable("a"), Unavailable("b"))
    assert await bench.call() == "answer"
    assert bench.waits == [0.5, 1.0]
    assert [type(event) for event in bench.events] == [CallRetried, CallRetried, CallEnded]


async def test_an_answer_that_says_no_is_not_retried() -> None:
    """NotFound is an answer: one call, no wait."""
    bench = Bench(NotFound("no such thing"))
    with pytest.raises(NotFound):
        await bench.call()
    assert bench.calls == 1


@pytest.mark.parametrize(("idempotent", "calls"), [(True, 2), (False, 1)])
async def test_an_unknown_outcome_is_repeated_only_if_it_does_no_harm(
    idempotent: bool, calls: int
) -> None:
    """A second charge is worse than no answer."""
    bench = Bench(OutcomeUnknown("silence"))
    if idempotent:
        assert await bench.call(idempotent=True) == "answer"
    else:
        with pytest.raises(OutcomeUnknown):
            await bench.call(idempotent=False)
    assert bench.calls == calls


async def test_an_error_after_an_unknown_outcome_never_claims_that_nothing_happened() -> None:
    """The first try may have landed, so a refused second one leaves the outcome unknown."""
    bench = Bench(OutcomeUnknown("silence"), Unavailable("refused"), Unavailable("refused"))
    with pytest.raises(OutcomeUnknown):
        await bench.call()
    assert bench.calls == 3


async def test_the_peers_wish_to_wait_is_honoured() -> None:
    """Overloaded says five seconds; half a second of jitter is not enough."""
    bench = Bench(Overloaded("busy", retry_after_s=5.0))
    await bench.call()
    assert bench.waits == [5.0]


async def test_a_wait_that_passes_the_deadline_is_not_begun() -> None:
    """The error is raised now, not after a pointless sleep."""
    bench = Bench(Overloaded("busy", retry_after_s=61.0))
    with pytest.raises(Overloaded):
        await bench.call()
    assert bench.waits == []


async def test_a_callers_earlier_deadline_counts() -> None:
    """A deadline that has passed refuses the call before it is sent."""
    bench = Bench()
    bench.clock.advance(10)
    with pytest.raises(DeadlineExceeded):
        await bench.guard.call(bench.dependency, idempotent=True, deadline=Deadline(9.0))
    assert bench.calls == 0


async def test_a_call_cut_off_in_the_middle_has_an_unknown_outcome() -> None:
    """Nobody answers; the deadline ends the wait and says what it does not know."""
    bench = Bench(timeout_s=0.01)
    with pytest.raises(OutcomeUnknown):
        await bench.guard.call(asyncio.Event().wait, idempotent=False)


async def test_the_budget_bounds_retries_over_all_calls() -> None:
    """With two tokens and no income, the third retry is refused and reported."""
    policy = RetryPolicy(attempts=2, backoff=Backoff(0, 1, 0), budget=BudgetPolicy(0.0, 2.0))
    bench = Bench(*(Unavailable("down") for _ in range(20)), retry=policy)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await bench.call()
    assert bench.calls == 5 + 2
    assert sum(isinstance(event, RetryRefused) for event in bench.events) == 3


async def test_an_open_breaker_refuses_without_calling_and_recovers_by_probes() -> None:
    """Open after four failures, closed again after one good probe."""
    policy = BreakerPolicy(min_calls=4, open_s=2.0, probes=1)
    bench = Bench(*(Unavailable("down") for _ in range(4)), breaker=policy, retry=RetryPolicy(1))
    for _ in range(4):
        with pytest.raises(Unavailable):
            await bench.call()
    with pytest.raises(BreakerOpen):
        await bench.call()
    assert bench.calls == 4
    bench.clock.advance(2.0)
    assert await bench.call() == "answer"
    assert bench.guard.phase is Phase.CLOSED


async def test_a_cancelled_probe_gives_its_place_back() -> None:
    """I3 of the breaker at the driver: a cancelled call does not block all later probes."""
    policy = BreakerPolicy(min_calls=1, open_s=1.0, probes=1)
    bench = Bench(Unavailable("down"), breaker=policy, retry=RetryPolicy(1))
    with pytest.raises(Unavailable):
        await bench.call()
    bench.clock.advance(1.0)
    probe = asyncio.create_task(bench.guard.call(asyncio.Event().wait, idempotent=True))
    await asyncio.sleep(0)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert await bench.call() == "answer"


@pytest.mark.parametrize(
    ("error", "falls_back"), [(Unavailable("down"), True), (NotFound("no"), False)]
)
async def test_a_fallback_answers_for_failures_not_for_refusals(
    error: ScalelabError, falls_back: bool
) -> None:
    """A stale price may stand in for a dead catalogue, never for "no such product"."""

    async def substitute(_error: ScalelabError) -> str:
        return "substitute"

    bench = Bench(error, retry=RetryPolicy(1))
    call = bench.guard.call(bench.dependency, idempotent=True, fallback=substitute)
    if falls_back:
        assert await call == "substitute"
    else:
        with pytest.raises(NotFound):
            await call


async def test_a_full_bulkhead_refuses_before_the_breaker_counts() -> None:
    """Being refused by our own bulkhead says nothing about the dependency."""
    bulkhead = Bulkhead("peer", limit=1, waiting=0)
    bench = Bench(bulkhead=bulkhead, breaker=BreakerPolicy(min_calls=1))
    async with bulkhead.place():
        with pytest.raises(Overloaded):
            await bench.call()
    assert bench.guard.phase is Phase.CLOSED


async def test_events_become_metrics() -> None:
    """Calls, retries, fallbacks and the phase stand in the registry that was passed in."""
    registry = CollectorRegistry()
    metrics = GuardMetrics(registry)
    metrics.watch("peer")
    policy = BreakerPolicy(min_calls=2)
    bench = Bench(Unavailable("a"), Unavailable("b"), breaker=policy)
    bench.events = []
    guard = Guard("peer", breaker=policy, hooks=[metrics], clock=bench.clock, sleep=bench.sleep)

    async def substitute(_error: ScalelabError) -> str:
        return "substitute"

    down: Callable[[], Awaitable[str]] = bench.dependency
    assert await guard.call(down, idempotent=True, fallback=substitute) == "substitute"
    assert await guard.call(down, idempotent=True, fallback=substitute) == "substitute"
    sample = registry.get_sample_value
    assert sample("guard_calls_total", {"guard": "peer", "result": "unavailable"}) == 2
    assert sample("guard_fallbacks_total", {"guard": "peer"}) == 2
    assert sample("breaker_phase", {"guard": "peer"}) == 2
