"""One process of a service: its connections, and what is known of its health.

Four things keep it from being picked: failed checks (balancing/health.py), an ejection
(balancing/outlier.py), a connection that it refused in the last `_PASS_OVER_S`, and retirement.
`available` and `weight` are plain attributes, written when one of them changes and by `tick`: a
pick reads them for every request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum

from month1_caching_gateway.balancing import (
    Health,
    HealthPolicy,
    OutlierPolicy,
    Track,
    eject,
    observe,
    ramped_weight,
)
from month1_caching_gateway.gateway.settings import Endpoint, GatewaySettings, Upstream
from month1_caching_gateway.gateway.upstream_pool import EndpointPool
from scalelab.clock import Clock

_PASS_OVER_S = 1.0
_NEVER_S = float("-inf")


class Turned(Enum):
    """What happened to an endpoint."""

    DOWN = "endpoint_down"
    UP = "endpoint_up"
    EJECTED = "endpoint_ejected"
    RETURNED = "endpoint_returned"


Tell = Callable[[str, Turned], None]
"""Hears an endpoint's name and what happened to it."""


class UpstreamEndpoint:
    """For one event loop. peers: all endpoints of the service, this one among them.

    expected: requests that were sent here and have not begun to ask for a connection. Without
    them all that arrives in one turn of the loop would see the same endpoint as the idlest.
    """

    __slots__ = (
        "_away_ended_s",
        "_clock",
        "_outlier",
        "_passed_over_until_s",
        "_peers",
        "_slow_start_s",
        "_tell",
        "_track",
        "at",
        "authority",
        "available",
        "expected",
        "health",
        "name",
        "pool",
        "retired",
        "weight",
    )

    def __init__(
        self,
        at: Endpoint,
        upstream: Upstream,
        settings: GatewaySettings,
        clock: Clock,
        peers: Callable[[], Collection[UpstreamEndpoint]],
        tell: Tell,
    ) -> None:
        self.at = at
        self.name = at.name
        self.authority = at.authority
        self.available = True
        self.weight = at.weight
        self.health = Health()
        self.expected = 0
        self.retired = False
        self.pool = EndpointPool(at, self, upstream, settings, clock)
        self._clock = clock
        self._peers = peers
        self._tell = tell
        self._outlier = upstream.outlier
        self._slow_start_s = upstream.slow_start_s
        self._track = Track()
        self._away_ended_s = _NEVER_S
        self._passed_over_until_s: float | None = None

    @property
    def in_flight(self) -> int:
        """Requests it has not answered yet."""
        return self.pool.in_flight + self.expected

    @property
    def ejected(self) -> bool:
        """Sent away for what its answers were like."""
        return self._track.ejected_until_s is not None

    def report(self, *, ok: bool | None) -> None:
        """How a request went here; None: it says nothing about the endpoint."""
        if ok:
            self._track.succeeded()
        elif ok is not None:
            self._failed()

    def refused(self) -> None:
        """It took no connection: passed over for a moment, unless no other is left."""
        self._passed_over_until_s = self._clock.monotonic_s() + _PASS_OVER_S
        self._judge()
        self._failed()

    def checked(self, policy: HealthPolicy, *, good: bool) -> None:
        """An active check has ended."""
        before = self.health.up
        self.health = observe(self.health, policy, good=good)
        if self.health.up is not before:
            self._judge()
            self._tell(self.name, Turned.UP if self.health.up else Turned.DOWN)

    def begin_slowly(self) -> None:
        """It is new among peers that are warm already."""
        self._away_ended_s = self._clock.monotonic_s()
        self._weigh(self._away_ended_s)

    def tick(self, now_s: float) -> None:
        """Act on the instants that have passed."""
        policy: OutlierPolicy | None = self._outlier
        if policy is not None and self._track.tick(policy, now_s=now_s):
            self._judge()
            self._tell(self.name, Turned.RETURNED)
        if self._passed_over_until_s is not None and now_s >= self._passed_over_until_s:
            self._passed_over_until_s = None
            self._judge()
        if self._slow_start_s:
            self._weigh(now_s)

    def retire(self) -> None:
        """Take no new request; those that run end here."""
        self.retired = True
        self._judge()
        self.pool.retire()

    def _failed(self) -> None:
        self._track.failed()
        policy = self._outlier
        if policy is None:
            return
        tracks = [peer._track for peer in self._peers()]
        if eject(self._track, tracks, policy, now_s=self._clock.monotonic_s()):
            self._judge()
            self._tell(self.name, Turned.EJECTED)

    def _judge(self) -> None:
        before, self.available = (
            self.available,
            self.health.up
            and not self.retired
            and self._track.ejected_until_s is None
            and self._passed_over_until_s is None,
        )
        if self.available and not before:
            self.begin_slowly()

    def _weigh(self, now_s: float) -> None:
        self.weight = ramped_weight(
            self.at.weight,
            away_ended_s=self._away_ended_s,
            slow_start_s=self._slow_start_s,
            now_s=now_s,
        )
