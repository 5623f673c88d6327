"""The breaker of one upstream: after repeated failures, refuse at once instead of waiting."""

from __future__ import annotations

from month1_caching_gateway.gateway.settings import GatewaySettings
from scalelab.clock import Clock
from scalelab.errors import BreakerOpen


class UpstreamBreaker:
    """Opens after `breaker_failures` failures in a row; probes with one call after the pause."""

    def __init__(self, name: str, settings: GatewaySettings, clock: Clock) -> None:
        self._name = name
        self._limit = settings.breaker_failures
        self._open_s = settings.breaker_open_s
        self._clock = clock
        self._failures = 0
        self._opened_at_s: float | None = None
        self._probe: UpstreamPermit | None = None

    @property
    def state(self) -> str:
        """closed, open or half_open."""
        if self._opened_at_s is None:
            return "closed"
        return "open" if self._left_s() > 0 else "half_open"

    def admit(self) -> UpstreamPermit:
        """Raises BreakerOpen."""
        permit = UpstreamPermit(self)
        if self._opened_at_s is None:
            return permit
        left_s = self._left_s()
        if left_s > 0 or self._probe is not None:
            raise BreakerOpen(f"{self._name} fails", retry_after_s=max(left_s, 1.0))
        self._probe = permit
        return permit

    def settle(self, permit: UpstreamPermit, *, ok: bool | None) -> None:
        """Called by the permit."""
        probing = permit is self._probe
        if probing:
            self._probe = None
        if ok:
            self._failures = 0
            self._opened_at_s = None
        elif ok is False:
            self._failures += 1
            if probing or self._failures >= self._limit:
                self._opened_at_s = self._clock.monotonic_s()

    def _left_s(self) -> float:
        if self._opened_at_s is None:
            return 0.0
        return self._opened_at_s + self._open_s - self._clock.monotonic_s()


class UpstreamPermit:
    """Leave to make one call."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: UpstreamBreaker) -> None:
        self._breaker = breaker

    def report(self, *, ok: bool | None) -> None:
        """How it went; None: it says nothing about the service."""
        self._breaker.settle(self, ok=ok)
