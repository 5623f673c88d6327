"""The gate blames the primary only for what the primary did."""

from __future__ import annotations

import asyncio

import pytest

from month2_databases.sharding.primary_gate import POLICY, PrimaryGate
from scalelab.clock import ManualClock
from scalelab.errors import Conflict, OutcomeUnknown, Unavailable


def settle_often(gate: PrimaryGate, error: BaseException, *, blamed: bool) -> None:
    for _ in range(POLICY.min_calls * 2):
        try:
            admission = gate.admit()
        except Unavailable:
            return
        gate.settle(admission, error, blamed=blamed)


@pytest.mark.parametrize("error", [Unavailable("gone"), OutcomeUnknown("lost")])
def test_a_dead_primary_is_refused_at_once_after_a_few_failures(error: Exception) -> None:
    """Unavailable with the seconds to wait, and open again for a probe after them."""
    clock = ManualClock()
    gate = PrimaryGate("shard-0", clock)
    settle_often(gate, error, blamed=True)
    with pytest.raises(Unavailable) as refusal:
        gate.admit()
    assert refusal.value.stable_code == "shard_unavailable"
    assert 0 < refusal.value.retry_after_s <= POLICY.open_s
    clock.advance(POLICY.open_s)
    gate.settle(gate.admit(), None)
    gate.admit()


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (Unavailable("another dependency, inside the block"), False),
        (Conflict("a constraint"), True),
        (ValueError("a bug of the caller"), True),
        (asyncio.CancelledError(), True),
    ],
)
def test_other_errors_never_close_the_gate(error: BaseException, blamed: bool) -> None:
    """The caller's own trouble says nothing about the shard."""
    gate = PrimaryGate("shard-0", ManualClock())
    settle_often(gate, error, blamed=blamed)
    gate.admit()
