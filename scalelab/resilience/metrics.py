"""Guard events as Prometheus metrics on a registry that is passed in.

guard_calls_total{guard,result}      result: "ok" or the error's stable code
guard_call_seconds{guard}            duration of the whole call, waits and retries included
guard_retries_total{guard}           guard_retries_refused_total{guard}: budget spent
guard_fallbacks_total{guard}
breaker_phase{guard}                 0 closed, 1 half-open, 2 open
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from scalelab.resilience.circuit_breaker import Phase
from scalelab.resilience.events import (
    BreakerChanged,
    CallEnded,
    CallFellBack,
    CallRetried,
    GuardEvent,
    RetryRefused,
)

PHASE_NUMBER = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}


class GuardMetrics:
    """A hook for any number of guards: `Guard(..., hooks=[metrics])`. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "guard_calls", "Guarded calls by result.", ["guard", "result"], registry=registry
        )
        self._seconds = Histogram(
            "guard_call_seconds", "Whole guarded calls.", ["guard"], registry=registry
        )
        self._retries = Counter("guard_retries", "Retries made.", ["guard"], registry=registry)
        self._refused = Counter(
            "guard_retries_refused", "Retries the budget refused.", ["guard"], registry=registry
        )
        self._fallbacks = Counter(
            "guard_fallbacks", "Calls a fallback answered.", ["guard"], registry=registry
        )
        self._phase = Gauge(
            "breaker_phase", "0 closed, 1 half-open, 2 open.", ["guard"], registry=registry
        )

    def watch(self, guard: str) -> None:
        """Show a guard's breaker as closed before its first event."""
        self._phase.labels(guard).set(PHASE_NUMBER[Phase.CLOSED])

    def __call__(self, event: GuardEvent) -> None:
        match event:
            case BreakerChanged():
                self._phase.labels(event.guard).set(PHASE_NUMBER[event.after])
            case CallRetried():
                self._retries.labels(event.guard).inc()
            case RetryRefused():
                self._refused.labels(event.guard).inc()
            case CallFellBack():
                self._fallbacks.labels(event.guard).inc()
            case CallEnded():
                self._calls.labels(event.guard, event.result).inc()
                self._seconds.labels(event.guard).observe(event.seconds)
