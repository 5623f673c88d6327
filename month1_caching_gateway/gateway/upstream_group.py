"""One service: its endpoints, which of them is next, and the breaker that stands before them all.

Theory of operation
    `choose` asks the upstream's policy for an endpoint among those that are available. When none
    is, any will do: a wrong verdict on all of them must not be worse than no verdict. A refused
    connection sent nothing, so `acquire` goes on to the next endpoint at once, for any method.
    What was sent may be sent again only as sending.py says, to an endpoint `choose_other` picks
    among those that were not tried, and only if the budget allows it.

Invariants (tests cite them)
    U1  An endpoint is tried at most once a request while others are untried.
    U2  `update` never cuts an answer: an endpoint that left ends what it has, and takes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random

from month1_caching_gateway.balancing import (
    KEYED,
    HedgePolicy,
    Latencies,
    Policy,
    Purse,
    policy_for,
)
from month1_caching_gateway.gateway.gate import Gate
from month1_caching_gateway.gateway.settings import GatewaySettings, Upstream
from month1_caching_gateway.gateway.upstream_breaker import Permit, UpstreamBreaker
from month1_caching_gateway.gateway.upstream_connection import Origin, UpstreamConnection
from month1_caching_gateway.gateway.upstream_endpoint import Turned, UpstreamEndpoint
from scalelab.balancing import Backend, least_connections
from scalelab.clock import Clock
from scalelab.errors import InvalidInput, Unavailable
from scalelab.hashing import Member
from scalelab.resilience import Phase

TellEndpoint = Callable[[str, str, Turned], None]
"""Hears the upstream's name, the endpoint's, and what happened to it."""


class UpstreamGroup:
    """The connections to one upstream. For one event loop. random: for picks by chance."""

    def __init__(
        self,
        upstream: Upstream,
        settings: GatewaySettings,
        clock: Clock,
        breaker: UpstreamBreaker,
        *,
        random: Random | None = None,
        tell: TellEndpoint | None = None,
    ) -> None:
        self.name = upstream.name
        self.upstream = upstream
        self.hedge_delay_s: float | None = None
        self.gate = None if upstream.shed is None else Gate(upstream.shed, clock)
        self._settings = settings
        self._clock = clock
        self._breaker = breaker
        self._random = random or Random(0)
        self._tell = tell
        self._retiring: list[UpstreamEndpoint] = []
        self.endpoints = [self._new(upstream, index) for index in range(len(upstream.endpoints))]
        self._policy = self._policy_of(upstream)
        now_s = clock.monotonic_s()
        self._retries = Purse(upstream.retries.budget, now_s=now_s)
        hedge = upstream.hedge or HedgePolicy()
        self._hedges = Purse(hedge.budget, now_s=now_s)
        self._latencies = Latencies()

    @property
    def breaker_phase(self) -> Phase:
        """Where the service's breaker stands."""
        return self._breaker.phase

    @property
    def connections(self) -> int:
        """Open, or being opened, over all endpoints, those that have left too."""
        return sum(one.pool.connections for one in (*self.endpoints, *self._retiring))

    @property
    def by_key(self) -> bool:
        """Whether `choose` looks at its key."""
        return self.upstream.balance in KEYED

    def admit(self) -> Permit:
        """Ask the breaker. Raises BreakerOpen."""
        permit = self._breaker.admit()
        self._retries.requests += 1
        return permit

    def choose(self, key: str = "") -> UpstreamEndpoint:
        """The endpoint for a first try."""
        endpoints = self.endpoints
        if len(endpoints) == 1:
            return endpoints[0]
        index = self._policy.pick(endpoints, key)
        return self._any(key, ()) if index is None else endpoints[index]

    def choose_other(self, tried: Collection[Origin], key: str = "") -> UpstreamEndpoint | None:
        """An available endpoint that was not tried yet; None if there is none (U1)."""
        return self._untried(tried, key, must_be_available=True)

    async def acquire(
        self, first: UpstreamEndpoint, *, fresh: bool = False, key: str = ""
    ) -> UpstreamConnection:
        """A connection to `first`, or to any other if it refuses.

        fresh: never one that was used before. Raises Unavailable if all refuse, Overloaded if the
        endpoint's queue is full; nothing was sent then.
        """
        endpoint, tried = first, [first]
        while True:
            try:
                return await endpoint.pool.acquire(fresh=fresh)
            except Unavailable as error:
                if not endpoint.retired:
                    endpoint.refused()
                if all(one in tried for one in self.endpoints):
                    raise Unavailable(
                        "the service takes no connection", code="upstream_unavailable"
                    ) from error
            endpoint = self._any(key, tried)
            tried.append(endpoint)

    def may_retry(self) -> bool:
        """Take a second try out of the budget, if it allows one."""
        return self._retries.spend(now_s=self._clock.monotonic_s())

    def may_hedge(self) -> bool:
        """The same for a second copy."""
        return self._hedges.spend(now_s=self._clock.monotonic_s())

    def observe(self, seconds: float) -> None:
        """How long an answer took; asked for only where the upstream hedges."""
        self._hedges.requests += 1
        self._latencies.add(seconds)

    def sweep(self, now_s: float) -> None:
        """Close connections that were idle for too long; act on what has become due."""
        for endpoint in self.endpoints:
            endpoint.pool.sweep(now_s)
            endpoint.tick(now_s)
        if self._retiring:
            self._retiring = [one for one in self._retiring if one.pool.connections]
        if self.upstream.hedge is not None:
            self.hedge_delay_s = self._latencies.delay_s(self.upstream.hedge)

    def update(self, upstream: Upstream) -> None:
        """Go on with other endpoints or another policy (U2).

        Endpoints that stay keep their connections and what is known of them; new ones begin
        slowly; breaker and budgets go on. Raises InvalidInput for another upstream's description.
        """
        if upstream.name != self.name:
            raise InvalidInput(f"{upstream.name!r} is not {self.name!r}", field="name")
        same = self._shape(upstream) == self._shape(self.upstream)
        before = {one.at: one for one in self.endpoints}
        after: list[UpstreamEndpoint] = []
        for index, at in enumerate(upstream.endpoints):
            kept = before.pop(at, None) if same else None
            if kept is None:
                kept = self._new(upstream, index)
                kept.begin_slowly()
            after.append(kept)
        self.upstream, self.endpoints = upstream, after
        self._policy = self._policy_of(upstream)
        for one in before.values():
            one.retire()
            self._retiring.append(one)

    def close(self) -> None:
        """Drop every connection."""
        for endpoint in (*self.endpoints, *self._retiring):
            endpoint.pool.close()

    @staticmethod
    def _shape(upstream: Upstream) -> tuple[object, ...]:
        """What an endpoint was built from, its address apart."""
        return (
            upstream.max_connections,
            upstream.max_waiting,
            upstream.outlier,
            upstream.slow_start_s,
        )

    def _new(self, upstream: Upstream, index: int) -> UpstreamEndpoint:
        return UpstreamEndpoint(
            upstream.endpoints[index],
            upstream,
            self._settings,
            self._clock,
            lambda: self.endpoints,
            self._told,
        )

    def _told(self, endpoint: str, turned: Turned) -> None:
        if self._tell is not None:
            self._tell(self.name, endpoint, turned)

    def _policy_of(self, upstream: Upstream) -> Policy:
        members = [Member(at.name, at.weight) for at in upstream.endpoints]
        return policy_for(upstream.balance, members, self._random.randrange)

    def _any(self, key: str, tried: Collection[Origin]) -> UpstreamEndpoint:
        """An untried endpoint, available or not; one that was tried only if no other is left."""
        return (
            self._untried(tried, key, must_be_available=True)
            or self._untried(tried, key, must_be_available=False)
            or self.endpoints[0]
        )

    def _untried(
        self, tried: Collection[Origin], key: str, *, must_be_available: bool
    ) -> UpstreamEndpoint | None:
        """The key's next, or the least loaded. No turn is used up: turns are for first tries."""
        backends = [
            Backend(
                one.name,
                one.in_flight,
                one not in tried and (one.available or not must_be_available),
                one.weight,
            )
            for one in self.endpoints
        ]
        if self.by_key:
            index = self._policy.pick(backends, key)
        else:
            index = least_connections(backends, self._random.randrange(len(backends)))
        return None if index is None else self.endpoints[index]
