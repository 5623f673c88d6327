"""What guards tell their hooks: frozen facts, turned into metrics and log lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scalelab.resilience.circuit_breaker import Phase


@dataclass(frozen=True, slots=True)
class BreakerChanged:
    """The breaker of `guard` went from one phase to another."""

    guard: str
    before: Phase
    after: Phase


@dataclass(frozen=True, slots=True)
class CallRetried:
    """Try number `attempt` failed with the stable code `code`; the next follows in `delay_s`."""

    guard: str
    attempt: int
    delay_s: float
    code: str


@dataclass(frozen=True, slots=True)
class RetryRefused:
    """A retry would have been right, but the budget is spent."""

    guard: str
    code: str


@dataclass(frozen=True, slots=True)
class CallFellBack:
    """The call failed with `code` and the fallback answered in its place."""

    guard: str
    code: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A guarded call is over. result: "ok" or the stable code of its error. seconds: in all."""

    guard: str
    result: str
    attempts: int
    seconds: float


GuardEvent = BreakerChanged | CallRetried | RetryRefused | CallFellBack | CallEnded
Hook = Callable[[GuardEvent], None]
"""Called synchronously on the event loop; must not block or raise."""
