"""A second copy of a read that is later than usual; the first usable answer of the two is taken.

The rules (when, how often, which methods) stand in balancing/hedging.py. The copy goes to another
endpoint and listens by itself until its answer begins; then its connection takes the place of the
first, which is dropped. An answer that tells of a sick endpoint is no answer: the first copy goes
on. When the first copy fails while the second is on its way, the second becomes the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol

from month1_caching_gateway.gateway.heads import ResponseHead
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.gateway.upstream_breaker import health_of
from month1_caching_gateway.gateway.upstream_connection import (
    AnswerSink,
    Origin,
    UpstreamConnection,
)
from month1_caching_gateway.gateway.upstream_endpoint import UpstreamEndpoint
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from scalelab.errors import Overloaded, Unavailable

_Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


class Asker(AnswerSink, Protocol):
    """Whose request it is."""

    def request_for(self, authority: bytes) -> bytes:
        """The whole request, for the endpoint of that name."""
        ...


class FirstCopy(Protocol):
    """What the second copy must know of the first, and tell."""

    def first_origin(self) -> Origin | None:
        """Where the first copy is."""
        ...

    def copy_sent(self) -> None:
        """The second copy is on its way."""
        ...

    def copy_answered(self, copy: SecondCopy, connection: UpstreamConnection) -> None:
        """Its answer begins, and can be used."""
        ...


class SecondCopy:
    """At most one a request. sent_s: when it went out, on the monotonic clock."""

    __slots__ = (
        "_asker",
        "_connection",
        "_first",
        "_group",
        "_key",
        "_plane",
        "_spawn",
        "_task",
        "_timer",
        "_to_head_request",
        "sent_s",
    )

    def __init__(
        self, first: FirstCopy, asker: Asker, group: UpstreamGroup, plane: Plane, spawn: _Spawn
    ) -> None:
        self._first = first
        self._asker = asker
        self._group = group
        self._plane = plane
        self._spawn = spawn
        self._key = ""
        self._to_head_request = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: UpstreamConnection | None = None
        self.sent_s = 0.0

    def begin_after(self, delay_s: float, key: str, *, to_head_request: bool) -> None:
        """Wait that long, then go, if the budget allows it and another endpoint is there."""
        self._key = key
        self._to_head_request = to_head_request
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._begin)

    def take(self) -> UpstreamConnection | None:
        """Give the connection away, if the copy was sent."""
        connection, self._connection = self._connection, None
        return connection

    def end(self) -> None:
        """It is not wanted any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        connection = self.take()
        if connection is not None:
            connection.abort()

    # What its connection calls.

    def on_answer(self, head: ResponseHead | None, pieces: list[bytes], *, ended: bool) -> None:
        connection = self.take()
        if connection is None or head is None:
            return
        if health_of(head) is False:
            connection.origin.report(ok=False)
            connection.abort()
            return
        if not ended:
            connection.answer_to(self._asker)
        self._first.copy_answered(self, connection)
        self._asker.on_answer(head, pieces, ended=ended)

    def on_upstream_lost(self, refused: Refused) -> None:
        connection = self.take()
        if connection is not None:
            connection.origin.report(ok=False if connection.fresh else None)

    def on_upstream_writable(self, *, writable: bool) -> None:
        """A copy has no body: what is not written yet is a head."""

    # Inside.

    def _begin(self) -> None:
        first = self._first.first_origin()
        if first is None:
            return  # it waits for a connection: more load is no help
        other = self._group.choose_other((first,), self._key)
        if other is not None and self._group.may_hedge():
            self._plane.metrics.event("hedge")
            self._task = self._spawn(self._send(other))

    async def _send(self, endpoint: UpstreamEndpoint) -> None:
        try:
            connection = await endpoint.pool.acquire()
        except Unavailable:
            endpoint.refused()
            return
        except Overloaded:
            return
        self._task = None
        self._connection = connection
        self.sent_s = self._plane.clock.monotonic_s()
        self._first.copy_sent()
        request = self._asker.request_for(connection.authority)
        connection.ask(self, request, to_head_request=self._to_head_request)
