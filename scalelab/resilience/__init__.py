"""Calls that survive their dependency: deadline, bulkhead, breaker, retry, fallback."""

from scalelab.resilience.backoff import Backoff, BudgetPolicy
from scalelab.resilience.bulkhead import Bulkhead
from scalelab.resilience.circuit_breaker import BreakerPolicy, Phase
from scalelab.resilience.deadline import Deadline
from scalelab.resilience.events import (
    BreakerChanged,
    CallEnded,
    CallFellBack,
    CallRetried,
    GuardEvent,
    Hook,
    RetryRefused,
)
from scalelab.resilience.guard import Fallback, Guard, is_failure
from scalelab.resilience.metrics import GuardMetrics
from scalelab.resilience.retry import RetryPolicy

__all__ = [
    "Backoff",
    "BreakerChanged",
    "BreakerPolicy",
    "BudgetPolicy",
    "Bulkhead",
    "CallEnded",
    "CallFellBack",
    "CallRetried",
    "Deadline",
    "Fallback",
    "Guard",
    "GuardEvent",
    "GuardMetrics",
    "Hook",
    "Phase",
    "RetryPolicy",
    "RetryRefused",
    "is_failure",
]
