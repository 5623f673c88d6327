"""Every limit and deadline of the gateway, as plain frozen values with safe defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from month1_caching_gateway.balancing import (
    Balance,
    Budget,
    HealthPolicy,
    HedgePolicy,
    OutlierPolicy,
)
from month1_caching_gateway.gateway.gate import Shed
from scalelab.errors import InvalidInput
from scalelab.resilience import BreakerPolicy


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one process of an upstream listens. weight: its share against the others', > 0."""

    host: str
    port: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1000:
            raise InvalidInput("an endpoint's weight is above 0, at most 1000", field="weight")

    @property
    def name(self) -> str:
        """host:port, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def authority(self) -> bytes:
        """As written in a Host header."""
        return self.name.encode()


@dataclass(frozen=True, slots=True)
class Retries:
    """Second tries of what may be repeated, each at an endpoint that was not tried yet.

    limit: at most so many after the first try. per_try_s: how long a try may be silent before
    another is made (None: as long as the route allows; the route's time-out is over all tries).
    budget: of the whole upstream.
    """

    limit: int = 1
    per_try_s: float | None = None
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.limit < 0 or (self.per_try_s is not None and self.per_try_s <= 0):
            raise InvalidInput("retries need limit >= 0 and per_try_s > 0", field="retries")


HashOn = Literal["path", "client", "subject"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The processes of one service. max_connections and max_waiting count per endpoint.

    balance: how the next endpoint is picked; hash_on: the key of a pick by key (the path without
    its query, the caller's address, the verified subject). health: None = no active checks.
    outlier: None = no ejection. slow_start_s: how long a returned endpoint's weight climbs.
    hedge: None = never a second copy. shed: None = the connections' bounds alone.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    max_connections: int = 64
    max_waiting: int = 256
    balance: Balance = "round_robin"
    hash_on: HashOn = "path"
    health: HealthPolicy | None = None
    outlier: OutlierPolicy | None = field(default_factory=OutlierPolicy)
    slow_start_s: float = 0.0
    retries: Retries = field(default_factory=Retries)
    hedge: HedgePolicy | None = None
    shed: Shed | None = None

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise InvalidInput(f"upstream {self.name!r} has no endpoint", field="endpoints")
        if len({(at.host, at.port) for at in self.endpoints}) != len(self.endpoints):
            raise InvalidInput(f"upstream {self.name!r} has one endpoint twice", field="endpoints")
        if self.slow_start_s < 0:
            raise InvalidInput("slow_start_s is not negative", field="slow_start_s")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Limits in bytes or counts, deadlines in seconds. Deadlines are met within `sweep_s`.

    allowed_hosts: names accepted in Host, without port; empty = any (only behind an edge that
    checks). trusted_proxies: peer addresses whose X-Forwarded-For and -Proto are believed.
    body_window_s / body_window_bytes: a request body must bring that many bytes per window.
    tunnel_idle_s: a WebSocket on which nothing moved for so long is closed.
    replay_bytes: a body up to this size is read whole before the upstream sees anything, so a slow
    sender holds no upstream connection and a lost idle connection can be replaced once.
    drain_idle_s: while draining, a connection goes when it has been idle for so long.
    upstream_idle_s: shorter than the services' own idle time, so that we close first.
    breaker: of every upstream; lost or refused connections, time-outs, 502, 503, 504 are failures.
    cache_bytes: of stored answers in this process, over all routes that have a cache policy.
    """

    max_connections: int = 4096
    max_request_line_bytes: int = 8 * 1024
    max_head_bytes: int = 16 * 1024
    max_headers: int = 100
    max_body_bytes: int = 1024 * 1024
    max_response_head_bytes: int = 32 * 1024
    replay_bytes: int = 64 * 1024
    buffer_bytes: int = 64 * 1024
    head_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    body_window_s: float = 10.0
    body_window_bytes: int = 1024
    slow_reader_timeout_s: float = 10.0
    linger_s: float = 1.0
    tunnel_idle_s: float = 120.0
    connect_timeout_s: float = 1.0
    acquire_timeout_s: float = 2.0
    upstream_idle_s: float = 20.0
    admission_timeout_s: float = 3.0
    drain_s: float = 10.0
    drain_idle_s: float = 0.5
    sweep_s: float = 0.25
    allowed_hosts: frozenset[str] = frozenset({"127.0.0.1", "localhost", "[::1]"})
    trusted_proxies: frozenset[str] = frozenset()
    forwarded_proto: str = "http"
    trace_ratio: float = 1.0
    breaker: BreakerPolicy = field(default_factory=lambda: BreakerPolicy(open_s=5.0))
    cache_bytes: int = 32 * 1024 * 1024
    log_flush_s: float = 0.25
    log_max_pending: int = 10_000
