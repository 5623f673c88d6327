"""An algorithm as one value: its script for Redis, and its twin for memory.

The stores know how to reach a state, and nothing of what it means. All that differs between the
algorithms is here, so a new one is a pure core, a script of the same arithmetic, and a value.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from month1_caching_gateway.ratelimit import concurrency, fixed_window, gcra, sliding_window
from month1_caching_gateway.ratelimit import token_bucket as bucket
from month1_caching_gateway.ratelimit.concurrency import LeaseAsk
from month1_caching_gateway.ratelimit.token_bucket import Decision, Policy, check_cost

_KNOWN_ASKS = 512

Q = TypeVar("Q")
S = TypeVar("S")
Asked = TypeVar("Asked", contravariant=True)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of `cost` under `policy`."""

    policy: Policy
    cost: float


@dataclass(frozen=True, slots=True)
class Algorithm(Generic[Q, S]):
    """script: a Lua file of this folder; it takes `pack`'s arguments for each key, answers three.

    check: raises InvalidInput for a question that makes no sense, before it is sent.
    step: the pure core; None stands for a key that was never seen.
    """

    name: str
    script: str
    check: Callable[[Q], None]
    pack: Callable[[Q], tuple[str, ...]]
    step: Callable[[S | None, Q, float], tuple[S, Decision]]


@dataclass(frozen=True, slots=True)
class RateAlgorithm(Algorithm[Ask, Any]):
    """bound: the most that any window of t seconds (closed at both ends) may admit."""

    bound: Callable[[Policy, float], float]


class Asker(Protocol[Asked]):
    """Where states are: MemoryTable or RedisBatches."""

    def ask(self, key: str, question: Asked) -> Awaitable[Decision]:
        """Raises InvalidInput, Unavailable (not counted), OutcomeUnknown (perhaps counted)."""
        ...


def _check_ask(ask: Ask) -> None:
    check_cost(ask.cost, ask.policy)


@lru_cache(maxsize=_KNOWN_ASKS)
def _pack_ask(ask: Ask) -> tuple[str, ...]:
    policy = ask.policy
    return (
        repr(float(policy.capacity)),
        repr(float(policy.rate_per_s)),
        repr(float(ask.cost)),
    )


def _pack_lease(ask: LeaseAsk) -> tuple[str, ...]:
    return (ask.step.value, ask.lease_id, str(ask.policy.slots), repr(float(ask.policy.lease_s)))


def _bucket(state: bucket.Bucket | None, ask: Ask, now_s: float) -> tuple[bucket.Bucket, Decision]:
    state = bucket.full(ask.policy, now_s=now_s) if state is None else state
    return bucket.decide(state, ask.policy, cost=ask.cost, now_s=now_s)


def _meter(state: gcra.Meter | None, ask: Ask, now_s: float) -> tuple[gcra.Meter, Decision]:
    state = gcra.dry(now_s=now_s) if state is None else state
    return gcra.meter_decide(state, ask.policy, cost=ask.cost, now_s=now_s)


def _window(
    state: fixed_window.Window | None, ask: Ask, now_s: float
) -> tuple[fixed_window.Window, Decision]:
    state = fixed_window.empty_window(ask.policy, now_s=now_s) if state is None else state
    return fixed_window.window_decide(state, ask.policy, cost=ask.cost, now_s=now_s)


def _pair(
    state: sliding_window.Pair | None, ask: Ask, now_s: float
) -> tuple[sliding_window.Pair, Decision]:
    state = sliding_window.empty_pair(ask.policy, now_s=now_s) if state is None else state
    return sliding_window.pair_decide(state, ask.policy, cost=ask.cost, now_s=now_s)


def _leases(
    state: concurrency.Leases | None, ask: LeaseAsk, now_s: float
) -> tuple[concurrency.Leases, Decision]:
    return concurrency.lease_decide(() if state is None else state, ask, now_s=now_s)


def _burst_and_rate(policy: Policy, t_s: float) -> float:
    return policy.capacity + policy.rate_per_s * t_s


def _whole_windows(policy: Policy, t_s: float) -> float:
    return policy.capacity * (math.ceil(t_s / fixed_window.window_s(policy)) + 1)


TOKEN_BUCKET = RateAlgorithm(
    "token_bucket", "token_bucket.lua", _check_ask, _pack_ask, _bucket, _burst_and_rate
)
GCRA = RateAlgorithm("gcra", "gcra.lua", _check_ask, _pack_ask, _meter, _burst_and_rate)
FIXED_WINDOW = RateAlgorithm(
    "fixed_window", "fixed_window.lua", _check_ask, _pack_ask, _window, _whole_windows
)
SLIDING_WINDOW = RateAlgorithm(
    "sliding_window", "sliding_window.lua", _check_ask, _pack_ask, _pair, _burst_and_rate
)
CONCURRENCY: Algorithm[LeaseAsk, concurrency.Leases] = Algorithm(
    "concurrency", "concurrency.lua", concurrency.check_lease, _pack_lease, _leases
)
RATE_ALGORITHMS = (TOKEN_BUCKET, GCRA, FIXED_WINDOW, SLIDING_WINDOW)
