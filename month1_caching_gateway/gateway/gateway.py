"""The gateway: listener, deadlines, drain. Composition is all that happens here."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Collection, Iterable
from random import Random, SystemRandom

from month1_caching_gateway.gateway.admission import (
    Admission,
    RateLimiter,
    Rates,
    no_keys,
)
from month1_caching_gateway.gateway.api_keys import KeyRing
from month1_caching_gateway.gateway.cached_answers import ResponseCache
from month1_caching_gateway.gateway.client_connection import ClientConnection
from month1_caching_gateway.gateway.door import Door
from month1_caching_gateway.gateway.health_checks import HealthChecks
from month1_caching_gateway.gateway.identity import Verifier
from month1_caching_gateway.gateway.known_heads import KnownHeads
from month1_caching_gateway.gateway.metrics import GatewayMetrics, Gauge
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.recent import Recent
from month1_caching_gateway.gateway.request_log import RequestLog, Sink
from month1_caching_gateway.gateway.routes import Route, RouteTable
from month1_caching_gateway.gateway.settings import GatewaySettings, Upstream
from month1_caching_gateway.gateway.snapshot import Groups, Rules, Snapshot
from month1_caching_gateway.gateway.stamps import Stamps
from month1_caching_gateway.gateway.tracing import Tracing
from month1_caching_gateway.gateway.upstream_breaker import UpstreamBreaker
from month1_caching_gateway.gateway.upstream_endpoint import Turned
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from month1_caching_gateway.ratelimit import Limiters
from scalelab.clock import Clock
from scalelab.errors import NotFound, Unavailable
from scalelab.resilience import BreakerChanged, Phase
from scalelab.telemetry import Log, Telemetry

_BACKLOG = 2048
_CALLERS = 4096
_OWN = -1
_PHASES = {Phase.CLOSED: 0.0, Phase.HALF_OPEN: 1.0, Phase.OPEN: 2.0}
_POLL_S = 0.01


class Gateway:
    """An HTTP/1.1 gateway in this process's event loop.

    routes name upstreams by `Upstream.name` and rate policies by key of `rates`. limiter: see
    month1_caching_gateway.ratelimit.Limiter, or Limiters where rules choose algorithm and failure
    policy. keys: gives the API keys of this instant, as `lambda: key_file.ring`. log_sink: takes
    whole JSON lines as bytes, in another thread; standard output by default. The gateway owns its
    connections and tasks; it does not close what is passed in. Raises InvalidInput for names that
    do not exist.

    Example (how a stack composes it)::

        gateway = Gateway(
            GatewaySettings(allowed_hosts=frozenset({"shop.example"})),
            [
                Route("catalog", prefix="/api/v1/products", auth="none", rate="anonymous"),
                Route("orders", template="/api/v1/orders", methods=frozenset({"GET", "POST"}),
                      rate="user"),
                Route("orders", template="/api/v1/orders/{order_id}/events", streaming=True),
            ],
            [
                Upstream("catalog", (Endpoint("127.0.0.1", 8101),)),
                Upstream("orders", (Endpoint("127.0.0.1", 8102), Endpoint("127.0.0.1", 8112))),
            ],
            TokenVerifier(HttpJwks(jwks_url, fetch), issuer, audience, clock),
            Limiter(RedisStore(redis_client), clock),
            telemetry,
            clock,
            rates={"anonymous": Policy(20, 10.0), "user": Policy(100, 50.0)},
        )
        port = await gateway.start("127.0.0.1", 8080)
        ...
        await gateway.stop()
    """

    def __init__(
        self,
        settings: GatewaySettings,
        routes: Iterable[Route],
        upstreams: Iterable[Upstream],
        verifier: Verifier,
        limiter: RateLimiter | Limiters,
        telemetry: Telemetry,
        clock: Clock,
        *,
        rates: Rates | None = None,
        keys: Callable[[], KeyRing] = no_keys,
        log_sink: Sink | None = None,
        random: Random | None = None,
    ) -> None:
        chance = random or Random(SystemRandom().getrandbits(128))
        self._settings = settings
        self._clock = clock
        self._checks = (verifier, limiter, keys)
        self._connections: set[ClientConnection] = set()
        self._cache = ResponseCache(settings.cache_bytes)
        self._groups = Groups(_maker(settings, telemetry.log, clock, chance))
        self._health = HealthChecks(lambda: self._groups.current.values(), clock, chance)
        metrics = GatewayMetrics(_gauges(self._groups, self._connections, self._cache))
        telemetry.registry.register(metrics)
        self._plane = Plane(
            settings=settings,
            in_force=self._built(Rules(tuple(routes), tuple(upstreams), dict(rates or {}))),
            tracing=Tracing(telemetry, settings.trace_ratio, chance),
            metrics=metrics,
            request_log=RequestLog(
                log_sink or _standard_output,
                flush_s=settings.log_flush_s,
                max_pending=settings.log_max_pending,
            ),
            log=telemetry.log,
            clock=clock,
            random=chance,
            stamps=Stamps(clock, chance),
            known_heads=KnownHeads(settings.max_headers),
            callers=Recent(_CALLERS),
        )
        self._open_door()
        self._servers: dict[int, asyncio.Server] = {}
        self._background: list[asyncio.Task[None]] = []

    @property
    def serving(self) -> bool:
        """Listening and not draining: what readiness should say."""
        return bool(self._servers) and not self._plane.draining

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return len(self._connections)

    @property
    def rules(self) -> Rules:
        """What new requests begin under."""
        return self._plane.in_force.rules

    def apply(self, rules: Rules) -> None:
        """Put `rules` in the place of those in force, for every request that begins from now on.

        Requests that run finish under the rules they began under (S1); services that did not
        change keep their connections and breakers (S2), removed ones drain (S3). No request fails.
        """
        self._plane.in_force = self._built(rules)
        self._plane.known_hosts.clear()
        self._open_door()

    def group(self, upstream: str) -> UpstreamGroup:
        """The endpoints in force of an upstream. Raises NotFound."""
        if upstream not in self._groups.current:
            raise NotFound(f"there is no upstream {upstream!r}")
        return self._groups.current[upstream]

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen; returns the bound port. Raises Unavailable (`address_in_use`).

        reuse_port: share the port with other processes; the kernel spreads new connections.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                self._accepted, host, port, backlog=_BACKLOG, reuse_port=reuse_port or None
            )
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host}:{port}: {error.strerror}", code="address_in_use"
            ) from error
        self._serve(_OWN, server)
        return int(server.sockets[0].getsockname()[1])

    async def listen(self, number: int, listener: socket.socket) -> None:
        """Take connections from a listening socket, too; number: to name it in `leave`.

        The gateway works on a copy and leaves `listener` open: what waits in its queue when this
        process stops listening can be taken by another.
        """
        if number not in self._servers:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(self._accepted, sock=listener.dup(), backlog=_BACKLOG)
            self._serve(number, server)

    def leave(self, number: int) -> None:
        """Take no more connections from that socket; those that are open stay."""
        server = self._servers.pop(number, None)
        if server is not None:
            server.close()

    def _serve(self, number: int, server: asyncio.Server) -> None:
        self._servers[number] = server
        if not self._background:
            loop = asyncio.get_running_loop()
            self._background = [
                loop.create_task(self._sweep(), name="gateway-sweep"),
                loop.create_task(self._health.run(), name="gateway-health"),
                loop.create_task(self._plane.request_log.run(), name="gateway-request-log"),
            ]

    def _accepted(self) -> ClientConnection:
        return ClientConnection(self._plane, self._connections)

    async def stop(self) -> None:
        """Drain: no new connection, running requests end (up to drain_s), then close the rest.

        Safe to call twice, and before `start`.
        """
        self._plane.draining = True
        for number in tuple(self._servers):
            self.leave(number)
        await self._drain()
        for connection in tuple(self._connections):
            connection.abort_for_stop()
        await self._end_tasks()
        self._groups.close()
        await asyncio.sleep(0)  # transports report their end on the next turn of the loop
        await self._plane.request_log.flush()

    async def _drain(self) -> None:
        settings = self._settings
        give_up_s = self._clock.monotonic_s() + settings.drain_s
        await asyncio.sleep(0)  # a connection accepted last reports itself on the next turn
        while True:
            now_s = self._clock.monotonic_s()
            for connection in tuple(self._connections):
                connection.close_if_idle(now_s - settings.drain_idle_s)
            wanted = any(connection.wanted for connection in self._connections)
            if not wanted or now_s >= give_up_s:
                return
            await asyncio.sleep(_POLL_S)

    async def _end_tasks(self) -> None:
        tasks = [*self._background, *self._plane.tasks]
        self._background = []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            now_s = self._clock.monotonic_s()
            self._plane.sweep(now_s)
            for connection in tuple(self._connections):
                connection.sweep(now_s)
            self._groups.sweep(now_s)
            self._groups.close_unreachable(self._in_use)

    def _built(self, rules: Rules) -> Snapshot:
        verifier, limiter, keys = self._checks
        return Snapshot(
            rules=rules,
            table=RouteTable(rules.routes),
            groups=self._groups.adopt(rules.upstreams),
            admission=Admission(verifier, limiter, rules.rates, keys=keys, clock=self._clock),
        )

    def _open_door(self) -> None:
        """Requests are intercepted only while a route wants it."""
        plane = self._plane
        wanted = any(one.cors or one.cache for one in plane.in_force.rules.routes)
        plane.interceptor = Door(plane, self._cache) if wanted else None

    def _in_use(self) -> list[Snapshot]:
        held = [connection.in_force for connection in self._connections]
        return [self._plane.in_force, *(one for one in held if one is not None)]


def _maker(
    settings: GatewaySettings, log: Log, clock: Clock, random: Random
) -> Callable[[Upstream], UpstreamGroup]:
    def tell(change: BreakerChanged) -> None:
        log.warning("breaker changed", upstream=change.guard, phase=change.after.value)

    def tell_of_endpoint(upstream: str, endpoint: str, turned: Turned) -> None:
        log.warning("endpoint changed", upstream=upstream, endpoint=endpoint, turned=turned.value)

    def make(one: Upstream) -> UpstreamGroup:
        breaker = UpstreamBreaker(one.name, settings.breaker, clock, tell)
        return UpstreamGroup(one, settings, clock, breaker, random=random, tell=tell_of_endpoint)

    return make


def _gauges(
    groups: Groups, connections: Collection[ClientConnection], cache: ResponseCache
) -> dict[str, Gauge]:
    return {
        "gateway_breaker_phase": (
            "0 closed, 1 half-open, 2 open.",
            "upstream",
            lambda: {name: _PHASES[group.breaker_phase] for name, group in groups.current.items()},
        ),
        "gateway_upstream_connections": (
            "Open, or being opened.",
            "upstream",
            lambda: {name: float(group.connections) for name, group in groups.current.items()},
        ),
        "gateway_endpoint_available": (
            "1 if it may be picked, 0 while it is down, ejected or passed over.",
            "endpoint",
            lambda: {
                f"{name}/{one.name}": float(one.available)
                for name, group in groups.current.items()
                for one in group.endpoints
            },
        ),
        "gateway_concurrency_limit": (
            "Requests at once that an upstream is believed to carry (load shedding).",
            "upstream",
            lambda: {n: one.gate.limit for n, one in groups.current.items() if one.gate},
        ),
        "gateway_shed_waiting": (
            "Requests that wait for a seat.",
            "upstream",
            lambda: {n: float(one.gate.waiting) for n, one in groups.current.items() if one.gate},
        ),
        "gateway_shed_requests": (
            "Requests shed since the upstream was configured.",
            "upstream",
            lambda: {n: float(one.gate.shed) for n, one in groups.current.items() if one.gate},
        ),
        "gateway_upstreams_draining": (
            "Removed or changed by a reload, and still finishing requests.",
            "listener",
            lambda: {"http": float(groups.retired)},
        ),
        "gateway_response_cache": (
            "Requests by how the cache answered them; bytes and keys held.",
            "kind",
            cache.counts,
        ),
        "gateway_connections": (
            "Client connections open.",
            "listener",
            lambda: {"http": float(len(connections))},
        ),
    }


def _standard_output(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
