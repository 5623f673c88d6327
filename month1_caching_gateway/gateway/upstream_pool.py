"""Keep-alive connections to one endpoint: bounded, last in first out, with a bounded queue.

Theory of operation
    The connection used last is used next: the others grow old and go, and the warm one serves. At
    `max_connections` callers wait in order, at most `max_waiting` of them and each for at most
    `acquire_timeout_s`. A connection that comes back goes straight to the first in the queue; when
    one ends instead, the first in the queue opens another.

Invariant (tests cite it)
    P1  Connections open plus connections being opened are never more than `max_connections`.
"""

from __future__ import annotations

import asyncio
from collections import deque

from month1_caching_gateway.gateway.known_heads import KnownAnswers
from month1_caching_gateway.gateway.settings import Endpoint, GatewaySettings, Upstream
from month1_caching_gateway.gateway.upstream_connection import Origin, UpstreamConnection
from scalelab.clock import Clock
from scalelab.errors import Overloaded, Unavailable

_Turn = asyncio.Future[UpstreamConnection | None]


class EndpointPool:
    """All connections of this process to one endpoint. For one event loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        origin: Origin,
        upstream: Upstream,
        settings: GatewaySettings,
        clock: Clock,
    ) -> None:
        self.endpoint = endpoint
        self._origin = origin
        self._max_connections = upstream.max_connections
        self._max_waiting = upstream.max_waiting
        self._settings = settings
        self._clock = clock
        self._known = KnownAnswers()
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._opening = 0
        self._waiting: deque[_Turn] = deque()
        self._closed = False

    @property
    def connections(self) -> int:
        """Open, or being opened."""
        return len(self._open) + self._opening

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def in_flight(self) -> int:
        """Requests that have a connection here, open one, or wait for one."""
        return len(self._open) + self._opening + len(self._waiting) - len(self._idle)

    def take_idle(self) -> UpstreamConnection | None:
        """The connection used last, without waiting."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
        return None

    async def acquire(self, *, fresh: bool = False) -> UpstreamConnection:
        """A connection, opened if need be. fresh: never one that was used before.

        Raises Overloaded (queue full, or waited too long) and Unavailable (refused, or too late);
        in both cases nothing was sent.
        """
        try:
            async with asyncio.timeout(self._settings.acquire_timeout_s):
                return await self._acquire(fresh=fresh)
        except TimeoutError as error:
            raise Overloaded("no connection became free in time", code="upstream_busy") from error

    async def _acquire(self, *, fresh: bool) -> UpstreamConnection:
        waited = False
        while True:
            if self._closed:
                raise Unavailable("this endpoint takes no more requests")
            found = self.take_idle()
            if found is not None and not fresh:
                return found
            if found is not None:
                found.abort()
                self._open.discard(found)
            if self.connections < self._max_connections:
                return await self._connect()
            handed = await self._turn(again=waited)
            waited = True
            if handed is not None and handed.alive and (handed.fresh or not fresh):
                return handed
            if handed is not None:
                handed.abort()
                self._open.discard(handed)

    def release(self, connection: UpstreamConnection) -> None:
        """Give back a connection whose answer has ended; it is kept if it is clean."""
        if self._closed or not connection.may_be_reused():
            connection.abort()
            return
        connection.resume()
        if self._waiting and self._hand_over(connection):
            return
        connection.idle_since_s = self._clock.monotonic_s()
        self._idle.append(connection)

    def sweep(self, now_s: float) -> None:
        """Close what was idle for longer than `upstream_idle_s`; the oldest stand first."""
        self._known.sweep(now_s)
        keep_from_s = now_s - self._settings.upstream_idle_s
        while self._idle and self._idle[0].idle_since_s < keep_from_s:
            self._idle.pop(0).abort()

    def retire(self) -> None:
        """Take no more work: idle connections go now, busy ones when their answer has ended.

        Whoever waits is refused; nothing of its request was sent.
        """
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Unavailable("this endpoint takes no more requests"))
        while self._idle:
            self._idle.pop().abort()

    def close(self) -> None:
        """Drop every connection; whoever still waits is refused."""
        self.retire()
        for connection in tuple(self._open):
            connection.abort()

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        endpoint = self.endpoint
        self._opening += 1
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                _, made = await loop.create_connection(self._new, endpoint.host, endpoint.port)
            self._open.add(made)
        except (TimeoutError, OSError) as error:
            detail = "refused a connection or did not take one in time"
            raise Unavailable(detail, code="upstream_unavailable") from error
        finally:
            self._opening -= 1
            if self.connections < self._max_connections:
                self._hand_over(None)
        if self._closed or not made.alive:
            made.abort()
            self._open.discard(made)
            raise Unavailable("closed a new connection at once", code="upstream_unavailable")
        return made

    def _new(self) -> UpstreamConnection:
        return UpstreamConnection(
            self._origin,
            self._on_lost,
            self.release,
            known=self._known,
            max_head_bytes=self._settings.max_response_head_bytes,
            buffer_bytes=self._settings.buffer_bytes,
        )

    async def _turn(self, *, again: bool) -> UpstreamConnection | None:
        """A connection, or None: a slot may be free, look again."""
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("too many requests wait for this service", code="upstream_busy")
        turn: _Turn = asyncio.get_running_loop().create_future()
        if again:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled() or not turn.done():
                if turn in self._waiting:
                    self._waiting.remove(turn)
            elif (handed := turn.result()) is not None:
                self.release(handed)
            else:
                self._hand_over(None)
            raise

    def _hand_over(self, connection: UpstreamConnection | None) -> bool:
        """Wake the first in the queue; False when nobody waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _on_lost(self, connection: UpstreamConnection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._hand_over(None)
