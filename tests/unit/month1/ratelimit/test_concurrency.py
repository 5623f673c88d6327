"""Leases in virtual time, and the driver that holds them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import (
    CONCURRENCY,
    ConcurrencyLimit,
    LeaseAsk,
    LeasePolicy,
    Leases,
    LeaseStep,
    MemoryTable,
    lease_decide,
)
from scalelab.clock import ManualClock
from scalelab.errors import InvalidInput, Overloaded

steps = st.lists(
    st.tuples(st.sampled_from(LeaseStep), st.sampled_from("abcdef"), st.integers(0, 4)), max_size=80
)


@given(slots=st.integers(1, 4), steps=steps)
def test_no_more_than_slots_leases_are_ever_unexpired(
    slots: int, steps: list[tuple[LeaseStep, str, int]]
) -> None:
    """I1, checked against a plain dictionary of who holds until when."""
    policy = LeasePolicy(slots, lease_s=5.0)
    leases: Leases = ()
    model: dict[str, float] = {}
    now_s = 0.0
    for step, lease_id, gap_s in steps:
        now_s += gap_s
        model = {one: until_s for one, until_s in model.items() if until_s > now_s}
        leases, decision = lease_decide(leases, LeaseAsk(policy, step, lease_id), now_s=now_s)
        if step is LeaseStep.RELEASE:
            assert decision.admitted is (model.pop(lease_id, None) is not None)
        else:
            assert decision.admitted is (lease_id in model or len(model) < slots)
            if decision.admitted:
                model[lease_id] = now_s + 5.0
        assert {one.lease_id: one.expires_at_s for one in leases} == model
        assert len(leases) <= slots
        assert decision.remaining == slots - len(model)


def test_a_refusal_names_when_the_first_lease_ends() -> None:
    """I3: at that time the same request is admitted, without any release."""
    policy = LeasePolicy(1, lease_s=5.0)
    leases, _ = lease_decide((), LeaseAsk(policy, LeaseStep.ACQUIRE, "a"), now_s=0.0)
    leases, refused = lease_decide(leases, LeaseAsk(policy, LeaseStep.ACQUIRE, "b"), now_s=2.0)
    assert (refused.admitted, refused.retry_after_s) == (False, 3.0)
    assert lease_decide(leases, LeaseAsk(policy, LeaseStep.ACQUIRE, "b"), now_s=5.0)[1].admitted


@pytest.mark.parametrize(("slots", "lease_s"), [(0, 1.0), (1, 0.0), (1, float("inf"))])
def test_a_policy_that_can_never_work_is_refused(slots: int, lease_s: float) -> None:
    """The mistake shows when the policy is built."""
    with pytest.raises(InvalidInput):
        LeasePolicy(slots, lease_s)


async def test_a_block_gives_its_slot_back_on_error_and_on_cancellation() -> None:
    """Neither way out leaves a slot taken until its lease ends."""
    limit = ConcurrencyLimit(MemoryTable(ManualClock(), CONCURRENCY), LeasePolicy(1, 60.0))
    with pytest.raises(RuntimeError, match="work failed"):
        async with limit.hold("k"):
            raise RuntimeError("work failed")

    inside = asyncio.Event()

    async def work() -> None:
        async with limit.hold("k"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    with pytest.raises(Overloaded) as refused:
        async with limit.hold("k"):
            pytest.fail("two holders of one slot")
    assert refused.value.stable_code == "concurrency_limit"
    assert refused.value.retry_after_s == 60.0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with limit.hold("k"):
        pass
