"""What every request needs, built once: the parts of the data plane, wired by `Gateway`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random

from month1_caching_gateway.gateway.headers import Caller
from month1_caching_gateway.gateway.heads import RequestHead
from month1_caching_gateway.gateway.interception import Interceptor
from month1_caching_gateway.gateway.known_heads import KnownHeads
from month1_caching_gateway.gateway.metrics import GatewayMetrics
from month1_caching_gateway.gateway.recent import Recent
from month1_caching_gateway.gateway.request_log import RequestLog
from month1_caching_gateway.gateway.settings import GatewaySettings
from month1_caching_gateway.gateway.snapshot import Snapshot
from month1_caching_gateway.gateway.stamps import Stamps
from month1_caching_gateway.gateway.tracing import Tracing
from scalelab.clock import Clock
from scalelab.telemetry import Log

_MAX_KNOWN_HOSTS = 256


def _no_tasks() -> set[asyncio.Task[None]]:
    return set()


@dataclass(slots=True)
class Plane:
    """Shared by all connections of one gateway; one event loop.

    in_force: the snapshot that the next request begins under; an exchange reads it once.
    interceptor: may answer admitted requests in a service's place (interception.py).
    callers: of requests that came through a trusted hop, by hop and what it said.
    tunnels: open now.
    draining: answers end their connection, and no new one is wanted.
    """

    settings: GatewaySettings
    in_force: Snapshot
    tracing: Tracing
    metrics: GatewayMetrics
    request_log: RequestLog
    log: Log
    clock: Clock
    random: Random
    stamps: Stamps
    known_heads: KnownHeads
    callers: Recent[tuple[str, bytes, bytes], Caller]
    interceptor: Interceptor | None = None
    draining: bool = False
    tunnels: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=_no_tasks)
    known_hosts: set[bytes] = field(default_factory=set[bytes])

    def serves_host(self, head: RequestHead) -> bool:
        """Whether the request's Host is one of ours; what was found good is remembered as sent."""
        if not self.settings.allowed_hosts:
            return True
        raw = head.named.get(b"host")
        if raw is None or raw in self.known_hosts:
            return True
        host = head.host
        served = host in self.settings.allowed_hosts or host in self.in_force.table.hosts
        if served and len(self.known_hosts) < _MAX_KNOWN_HOSTS:
            self.known_hosts.add(raw)
        return served

    def sweep(self, now_s: float) -> None:
        """Read the wall clock; forget what was not used lately."""
        self.stamps.resync()
        self.known_heads.sweep(now_s)
        if self.interceptor is not None:
            self.interceptor.sweep(now_s)

    def spawn(
        self, work: Coroutine[object, object, None], on_bug: Callable[[BaseException], None]
    ) -> asyncio.Task[None]:
        """A task the gateway awaits when it stops. on_bug: told what it failed with, at its end."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                on_bug(error)

        task.add_done_callback(ended)
        return task
