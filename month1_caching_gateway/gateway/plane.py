"""What every request needs, built once: the parts of the data plane, wired by `Gateway`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from month1_caching_gateway.gateway.admission import Admission
from month1_caching_gateway.gateway.metrics import GatewayMetrics
from month1_caching_gateway.gateway.request_log import RequestLog
from month1_caching_gateway.gateway.routes import RouteTable
from month1_caching_gateway.gateway.settings import GatewaySettings
from month1_caching_gateway.gateway.tracing import Tracing
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from scalelab.clock import Clock
from scalelab.ids import uuid7
from scalelab.telemetry import Log


def _no_tasks() -> set[asyncio.Task[None]]:
    return set()


@dataclass(slots=True)
class Plane:
    """Shared by all connections of one gateway; one event loop.

    draining: answers end their connection, and no new one is wanted.
    """

    settings: GatewaySettings
    routes: RouteTable
    upstreams: Mapping[str, UpstreamGroup]
    admission: Admission
    tracing: Tracing
    metrics: GatewayMetrics
    request_log: RequestLog
    log: Log
    clock: Clock
    random: Random
    draining: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=_no_tasks)

    def new_request_id(self) -> str:
        """A UUIDv7: ids of later requests sort later."""
        return str(self._uuid())

    def spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """A task the gateway awaits when it stops."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _uuid(self) -> UUID:
        return uuid7(self.clock.now(), self.random.getrandbits)
