"""What the limiter answers while its store is gone."""

from __future__ import annotations

import pytest

from month1_caching_gateway.ratelimit import (
    Decision,
    FailurePolicy,
    Limiter,
    MemoryStore,
    Policy,
    StoreFailed,
)
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput, OutcomeUnknown, Unavailable

POLICY = Policy(capacity=6, rate_per_s=1.0)


class FlakyStore:
    """A store that answers, or fails with `error`; counts how often it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    def ask(self, key: str, policy: Policy, *, cost: float = 1.0) -> Decision:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Decision(admitted=True, remaining=1.0, retry_after_s=0.0)


@pytest.mark.parametrize("error", [Unavailable("gone"), OutcomeUnknown("late")])
async def test_open_admits_everything(error: Exception) -> None:
    """FailurePolicy.OPEN."""
    store, clock = FlakyStore(), ManualClock()
    store.error = error
    limiter = Limiter(store, clock, on_failure=FailurePolicy.OPEN)
    assert all([(await limiter.check("k", POLICY)).admitted for _ in range(50)])


async def test_closed_refuses_with_unavailable() -> None:
    """FailurePolicy.CLOSED."""
    store, clock = FlakyStore(), ManualClock()
    store.error = Unavailable("gone")
    limiter = Limiter(store, clock, on_failure=FailurePolicy.CLOSED)
    with pytest.raises(Unavailable):
        await limiter.check("k", POLICY)


async def test_local_share_counts_here_with_a_part_of_the_policy() -> None:
    """Three processes: two of six tokens each, refilled at a third of the rate."""
    store, clock = FlakyStore(), ManualClock()
    store.error = Unavailable("gone")
    limiter = Limiter(store, clock, processes=3)
    admitted = [(await limiter.check("k", POLICY)).admitted for _ in range(5)]
    assert admitted == [True, True, False, False, False]
    clock.advance(3.0)
    assert (await limiter.check("k", POLICY)).admitted
    assert not (await limiter.check("k", POLICY)).admitted


async def test_a_failed_store_is_not_asked_again_before_the_cooloff() -> None:
    """Otherwise each request of an outage would wait for the store's deadline."""
    store, clock = FlakyStore(), ManualClock()
    events: list[StoreFailed] = []
    store.error = Unavailable("gone")
    limiter = Limiter(store, clock, cooloff_s=1.0, on_event=events.append)
    for _ in range(3):
        await limiter.check("k", POLICY)
    assert store.asked == 1
    assert [event.policy for event in events] == [FailurePolicy.LOCAL_SHARE]
    store.error = None
    clock.advance(1.0)
    await limiter.check("k", POLICY)
    assert store.asked == 2


@pytest.mark.parametrize("policy", list(FailurePolicy))
async def test_a_cost_above_the_capacity_is_a_mistake_even_without_the_store(
    policy: FailurePolicy,
) -> None:
    """The same InvalidInput as with the store: an outage does not hide a wrong configuration."""
    store, clock = FlakyStore(), ManualClock()
    store.error = Unavailable("gone")
    limiter = Limiter(store, clock, on_failure=policy)
    with pytest.raises((InvalidInput, Unavailable)):
        await limiter.check("warm-up", POLICY, cost=7.0)
    with pytest.raises(InvalidInput):
        await limiter.check("k", POLICY, cost=7.0)


async def test_memory_forgets_the_key_used_least_recently() -> None:
    """Bounded memory: the third key of two pushes out the one not touched for longest."""
    store = MemoryStore(ManualClock(), max_keys=2)
    one = Policy(1, 0.001)
    for key in ("a", "b", "a", "c"):
        await store.check(key, one)
    assert len(store) == 2
    assert not (await store.check("a", one)).admitted
    assert (await store.check("b", one)).admitted
