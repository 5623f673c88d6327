"""Active checks: a GET to each endpoint on its schedule, on a connection of its own.

A connection of its own, because a pool that is full would make a busy endpoint look dead, and a
pooled connection that is open says nothing about new ones. The state machine and the schedule are
in balancing/health.py; here is only the asking. One task serves all upstreams, and looks at the
groups anew each time, so that a reload or an `update` needs no ceremony. A check that hangs holds
up nobody: each has a task and a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

from month1_caching_gateway.balancing import HealthPolicy, next_check_s
from month1_caching_gateway.gateway.heads import parse_response_head
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.gateway.settings import Endpoint
from month1_caching_gateway.gateway.upstream_endpoint import UpstreamEndpoint
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from scalelab.clock import Clock

_MAX_HEAD_BYTES = 32 * 1024
_LOOK_EVERY_S = 0.1
_END = b"\r\n\r\n"


class HealthChecks:
    """Keeps every endpoint's health up to date while `run` runs. groups: those in force now."""

    def __init__(
        self, groups: Callable[[], Iterable[UpstreamGroup]], clock: Clock, random: Random
    ) -> None:
        self._groups = groups
        self._clock = clock
        self._random = random
        self._due_s: dict[UpstreamEndpoint, float] = {}
        self._running: set[UpstreamEndpoint] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:  # noqa: ASYNC110 - what is awaited is time
                await asyncio.sleep(self._begin_due(tasks))

    def _begin_due(self, tasks: asyncio.TaskGroup) -> float:
        """Begin the checks that are due; seconds until it is worth looking again."""
        now_s = self._clock.monotonic_s()
        known: dict[UpstreamEndpoint, float] = {}
        look_again_s = _LOOK_EVERY_S
        for group in self._groups():
            policy = group.upstream.health
            if policy is None:
                continue
            look_again_s = min(look_again_s, policy.interval_s / 4)
            for endpoint in group.endpoints:
                due_s = self._due_s.get(endpoint, now_s)
                if due_s <= now_s and endpoint not in self._running:
                    due_s = now_s + next_check_s(policy, self._random.random())
                    self._running.add(endpoint)
                    tasks.create_task(self._check(endpoint, policy))
                known[endpoint] = due_s
        self._due_s = known
        return look_again_s

    async def _check(self, endpoint: UpstreamEndpoint, policy: HealthPolicy) -> None:
        try:
            good = await is_good(endpoint.at, policy)
        finally:
            self._running.discard(endpoint)
        endpoint.checked(policy, good=good)


async def is_good(at: Endpoint, policy: HealthPolicy) -> bool:
    """Ask once. False for any answer but a good one, and for none in time. Raises nothing."""
    try:
        async with asyncio.timeout(policy.timeout_s):
            return await _status(at, policy.path) in policy.statuses
    except (OSError, TimeoutError, EOFError, Refused, asyncio.LimitOverrunError):
        return False


async def _status(at: Endpoint, path: str) -> int:
    reader, writer = await asyncio.open_connection(at.host, at.port, limit=_MAX_HEAD_BYTES)
    try:
        writer.write(
            b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: scalelab-health-check\r\n"
            b"Connection: close\r\n\r\n" % (path.encode(), at.authority)
        )
        raw = await reader.readuntil(_END)
        return parse_response_head(raw, to_head_request=False).status
    finally:
        writer.transport.abort()
