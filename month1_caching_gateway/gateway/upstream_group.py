"""One service: its endpoints in turn, and the breaker that stands before all of them.

An endpoint that refused a connection is passed over for `_PASS_OVER_S`, unless no other is left:
the breaker judges the service, not one of its processes. A refused connection sent nothing, so
the next endpoint may be tried at once, for any method.
"""

from __future__ import annotations

from collections.abc import Collection

from month1_caching_gateway.gateway.settings import GatewaySettings, Upstream
from month1_caching_gateway.gateway.upstream_breaker import Permit, UpstreamBreaker
from month1_caching_gateway.gateway.upstream_connection import UpstreamConnection
from month1_caching_gateway.gateway.upstream_pool import EndpointPool
from scalelab.balancing import Backend, round_robin
from scalelab.clock import Clock
from scalelab.errors import Unavailable
from scalelab.resilience import Phase

_PASS_OVER_S = 1.0


class UpstreamGroup:
    """The connections to one upstream. For one event loop."""

    def __init__(
        self, upstream: Upstream, settings: GatewaySettings, clock: Clock, breaker: UpstreamBreaker
    ) -> None:
        self.name = upstream.name
        self._breaker = breaker
        self._clock = clock
        self._pools = [EndpointPool(at, upstream, settings, clock) for at in upstream.endpoints]
        self._passed_over_until_s = [float("-inf")] * len(self._pools)
        self._turn = 0

    @property
    def breaker_phase(self) -> Phase:
        """Where the service's breaker stands."""
        return self._breaker.phase

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
        connection = self._pools[self._pick(())].take_idle()
        if connection is not None:
            self._turn += 1
        return connection

    async def acquire(self, *, fresh: bool) -> UpstreamConnection:
        """A connection to any endpoint. Raises Unavailable if all refuse, Overloaded if full."""
        tried: list[int] = []
        refused: Unavailable | None = None
        while len(tried) < len(self._pools):
            index = self._pick(tried)
            self._turn += not tried
            tried.append(index)
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

    def _pick(self, tried: Collection[int]) -> int:
        """The endpoint whose turn it is, of those not tried yet; a shunned one if none is left."""
        now_s = self._clock.monotonic_s()
        for shun in (True, False):
            backends = [
                Backend(
                    pool.endpoint.host,
                    available=index not in tried
                    and not (shun and self._passed_over_until_s[index] > now_s),
                )
                for index, pool in enumerate(self._pools)
            ]
            picked = round_robin(backends, self._turn)
            if picked is not None:
                return picked
        return self._turn % len(self._pools)
