"""One service: its endpoints in turn, and the breaker that stands before all of them.

An endpoint that refused a connection is passed over for `_PASS_OVER_S`, unless no other is left:
the breaker judges the service, not one of its processes. A refused connection sent nothing, so
the next endpoint may be tried at once, for any method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from month1_caching_gateway.gateway.settings import GatewaySettings, Upstream
from month1_caching_gateway.gateway.upstream_connection import UpstreamConnection
from month1_caching_gateway.gateway.upstream_pool import EndpointPool
from scalelab.clock import Clock
from scalelab.errors import Unavailable

_PASS_OVER_S = 1.0


class Permit(Protocol):
    """Leave to make one call."""

    def report(self, *, ok: bool | None) -> None:
        """How it went, once. None: it says nothing about the service."""
        ...


class Breaker(Protocol):
    """Stands before a service."""

    @property
    def state(self) -> str:
        """closed, open or half_open."""
        ...

    def admit(self) -> Permit:
        """Raises BreakerOpen."""
        ...


class UpstreamGroup:
    """The connections to one upstream. For one event loop."""

    def __init__(
        self, upstream: Upstream, settings: GatewaySettings, clock: Clock, breaker: Breaker
    ) -> None:
        self.name = upstream.name
        self._breaker = breaker
        self._clock = clock
        self._pools = [EndpointPool(at, upstream, settings, clock) for at in upstream.endpoints]
        self._passed_over_until_s = [float("-inf")] * len(self._pools)
        self._next = 0

    @property
    def breaker_state(self) -> str:
        """closed, open or half_open."""
        return self._breaker.state

    @property
    def connections(self) -> int:
        """Open, or being opened, over all endpoints."""
        return sum(pool.connections for pool in self._pools)

    def admit(self) -> Permit:
        """Ask the breaker. Raises BreakerOpen."""
        return self._breaker.admit()

    def take_idle(self) -> UpstreamConnection | None:
        """An idle connection to the endpoint whose turn it is, if it has one."""
        if len(self._pools) == 1:
            return self._pools[0].take_idle()
        connection = self._pools[self._order()[0]].take_idle()
        if connection is not None:
            self._next += 1
        return connection

    async def acquire(self, *, fresh: bool) -> UpstreamConnection:
        """A connection to any endpoint. Raises Unavailable if all refuse, Overloaded if full."""
        refused: Unavailable | None = None
        order = self._order()
        self._next += 1
        for index in order:
            try:
                return await self._pools[index].acquire(fresh=fresh)
            except Unavailable as error:
                refused = error
                self._passed_over_until_s[index] = self._clock.monotonic_s() + _PASS_OVER_S
        raise Unavailable(
            "the service takes no connection", code="upstream_unavailable"
        ) from refused

    def sweep(self, now_s: float) -> None:
        """Close connections that were idle for too long."""
        for pool in self._pools:
            pool.sweep(now_s)

    def close(self) -> None:
        """Drop every connection."""
        for pool in self._pools:
            pool.close()

    def _order(self) -> list[int]:
        """Endpoints in the order to try: round robin, those that refused just now at the end."""
        count = len(self._pools)
        order = [(self._next + step) % count for step in range(count)]
        now_s = self._clock.monotonic_s()
        return sorted(order, key=lambda index: self._passed_over_until_s[index] > now_s)


BreakerFactory = Callable[[str], Breaker]
"""Makes the breaker of an upstream, by its name."""
