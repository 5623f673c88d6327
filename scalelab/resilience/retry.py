"""Decide whether an error is worth another try, and after how long.

Which errors
    Only errors that say of themselves that they are retryable. OutcomeUnknown only for calls whose
    repetition does no harm (`idempotent`). Never BreakerOpen: it was our own refusal, and trying
    again at once is what the breaker is there to prevent.

How long
    Full jitter (backoff.py), but not sooner than the peer asked for. An Overloaded always carries
    such a wish. Unavailable and OutcomeUnknown carry `NO_HINT_S` when nobody said anything, which
    therefore counts as no wish.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scalelab.errors import BreakerOpen, OutcomeUnknown, Overloaded, ScalelabError, Unavailable
from scalelab.resilience.backoff import Backoff, BudgetPolicy, Purse, earn, full_purse, spend

NO_HINT_S = 1.0
"""The `retry_after_s` that Unavailable and OutcomeUnknown have unless someone sets another."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """attempts: tries in all, >= 1 (1 means never retry)."""

    attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    budget: BudgetPolicy = field(default_factory=BudgetPolicy)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("a call is tried at least once")


def may_repeat(error: ScalelabError, *, idempotent: bool) -> bool:
    """Whether trying again can help and can do no harm."""
    if isinstance(error, BreakerOpen) or not error.retryable:
        return False
    return idempotent or not isinstance(error, OutcomeUnknown)


def asked_wait_s(error: ScalelabError) -> float:
    """Seconds the other side asked us to stay away, 0.0 if it did not say."""
    if isinstance(error, Overloaded):
        return error.retry_after_s
    if isinstance(error, (Unavailable, OutcomeUnknown)) and error.retry_after_s != NO_HINT_S:
        return error.retry_after_s
    return 0.0


def wait_s(error: ScalelabError, policy: RetryPolicy, *, retry: int, random_unit: float) -> float:
    """Seconds to wait before retry number `retry` (1, 2, ...)."""
    return max(policy.backoff.delay_s(retry, random_unit), asked_wait_s(error))


class RetryBudget:
    """One client's purse, shared by all its calls."""

    def __init__(self, policy: BudgetPolicy) -> None:
        self._policy = policy
        self._purse: Purse = full_purse(policy)

    def on_call(self) -> None:
        """A first try is made."""
        self._purse = earn(self._purse, self._policy)

    def grants_retry(self) -> bool:
        """Take one retry out of the purse if it holds one."""
        self._purse, granted = spend(self._purse)
        return granted
