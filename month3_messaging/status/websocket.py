"""The WebSocket listener of a node: order status, pushed; one connection for a user's orders.

Theory of operation
    Updates that arrive within `tick_s` of each other go out together: per client the latest of
    each order, joined into one write. Their bytes are made once per node. One sweep a second asks
    silent clients whether they are there and ends those that are gone, do not read, or whose
    token has expired; so an idle client holds no timer and no task.

Guarantees: a client that follows an order gets what it missed after the version it names, then
every later state or a later one still; versions of an order ascend. Beyond the bounds
(`HubSettings.per_user`, `watchers`, `orders_max`) it is refused with a stable code.
Absent on purpose: TLS (the edge has it), compression (a frame has about 150 bytes).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from month3_messaging.orders import Progress, Sessions, progress_after, read_own
from month3_messaging.status.connection import Connection
from month3_messaging.status.followers import Followers
from month3_messaging.status.frames import CloseCode
from month3_messaging.status.hub import Hub
from month3_messaging.status.liveness import Pace, Verdict, judge
from scalelab.clock import Clock
from scalelab.errors import Forbidden, Unavailable
from scalelab.security import Principal, TokenVerifier
from scalelab.telemetry import Log

_BACKLOG = 1024
_SCOPE = "shop"


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """How the listener behaves.

    tick_s: how long updates wait for company; None writes each at once. write_high: bytes that
    may wait in this process for one client; send_buffer: the kernel's. connections_max: sockets,
    those in the handshake too. orders_max: per connection. reads_max: histories read at once by
    this node. origins: of the pages that may connect. goodbye_s: for a client to
    answer a goodbye.
    """

    tick_s: float | None = 0.005
    pace: Pace = field(default_factory=Pace)
    handshake_s: float = 10.0
    write_high: int = 32 * 1024
    send_buffer: int = 64 * 1024
    connections_max: int = 4000
    orders_max: int = 64
    reads_max: int = 8
    sweep_s: float = 1.0
    origins: frozenset[str] = frozenset()
    goodbye_s: float = 5.0


class StatusSockets:
    """All connections of one listener. Use `serve_status_sockets`."""

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        verifier: TokenVerifier,
        *,
        clock: Clock,
        log: Log,
        settings: SocketSettings,
    ) -> None:
        self.settings = settings
        self.at_once = settings.tick_s is None
        self.followers: Followers = hub.followers
        self._sessions = sessions
        self._verifier = verifier
        self._clock = clock
        self._log = log
        self._connections: set[Connection] = set()
        self._dirty: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._reads = asyncio.Semaphore(settings.reads_max)
        self.ended: dict[str, int] = dict.fromkeys(Verdict, 0)
        """Connections that the sweep ended, per verdict."""

    @property
    def connected(self) -> int:
        """How many sockets are open."""
        return len(self._connections)

    @property
    def stalled(self) -> int:
        """How many clients take nothing now."""
        return sum(one.signs.stalled_s is not None for one in self._connections)

    @property
    def heard_s(self) -> list[float]:
        """When each client was last heard, ascending."""
        return sorted(one.signs.heard_s for one in self._connections)

    def waiting_bytes(self) -> int:
        """What waits in this process for clients to read."""
        return sum(one.waiting_bytes for one in self._connections)

    def now_s(self) -> float:
        """Seconds of the clock that `signs` are in."""
        return self._clock.monotonic_s()

    def monotonic_of(self, instant: datetime) -> float:
        """The same clock's reading at an instant to come."""
        return self.now_s() + (instant - self._clock.now()).total_seconds()

    # What connections call.

    def joined(self, connection: Connection) -> None:
        """A socket was accepted; beyond the bound it is hung up on without a word."""
        self._connections.add(connection)
        self._empty.clear()
        if len(self._connections) > self.settings.connections_max:
            connection.end(CloseCode.POLICY_VIOLATION)

    def left(self, connection: Connection) -> None:
        """Its socket is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def bound_send_buffer(self, transport: asyncio.Transport) -> None:
        """Bound what the kernel keeps for a client that does not read."""
        opened = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.settings.send_buffer)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work that ends with the listener at the latest."""
        task = asyncio.create_task(work, name="status socket")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def flush_soon(self, connection: Connection) -> None:
        """Have `connection.flush` called at the end of this tick."""
        if self.settings.tick_s is None:
            connection.flush()
        elif not connection.dirty:
            connection.dirty = True
            if not self._dirty:
                asyncio.get_running_loop().call_later(self.settings.tick_s, self._flush)
            self._dirty.append(connection)

    async def authenticate(self, token: str | None) -> Principal:
        """The principal of a token with the shop's scope. Raises Unauthenticated, Forbidden."""
        principal = await self._verifier.verify(token)
        if _SCOPE not in principal.scopes:
            raise Forbidden(f"This needs the scope {_SCOPE}.", code="insufficient_scope")
        return principal

    async def check_owner(self, order_id: UUID, principal: Principal) -> None:
        """Raises NotFound for an order that is not the principal's."""
        async with self._reads:
            await read_own(self._sessions, order_id, principal, None)

    async def progress(self, order_id: UUID, after: int) -> Progress:
        """The history after a version, on the primary, at most `reads_max` at once."""
        async with self._reads, self._sessions.for_order(order_id) as session:
            return await progress_after(session.conn, order_id, after)

    # The sweep, and the end.

    async def sweep(self) -> None:
        """Judge every connection once a `sweep_s`, for ever."""
        while True:
            await asyncio.sleep(self.settings.sweep_s)
            self.sweep_once()

    def sweep_once(self) -> None:
        """Judge every connection now."""
        now_s = self.now_s()
        for connection in tuple(self._connections):
            if connection.ending:
                if now_s >= connection.signs.expires_s:
                    connection.abort()
                continue
            verdict = judge(connection.signs, self.settings.pace, now_s)
            if verdict is Verdict.FINE:
                connection.retry_looks()
            elif verdict is Verdict.ASK:
                connection.ask()
            else:
                self.ended[verdict] += 1
                connection.end(CloseCode.POLICY_VIOLATION, verdict.value)

    async def say_goodbye(self) -> None:
        """Tell everyone to come back elsewhere; whoever does not hang up in time is hung up on."""
        for connection in tuple(self._connections):
            connection.end(CloseCode.GOING_AWAY, "the server stops")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.goodbye_s):
                await self._empty.wait()
        for connection in tuple(self._connections):
            connection.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("status_socket_failed", error=repr(error))


@asynccontextmanager
async def serve_status_sockets(
    hub: Hub,
    sessions: Sessions,
    verifier: TokenVerifier,
    *,
    clock: Clock,
    log: Log,
    host: str = "127.0.0.1",
    port: int = 0,
    settings: SocketSettings | None = None,
) -> AsyncGenerator[tuple[StatusSockets, int]]:
    """Listen while the body runs; gives the connections and the port.

    Raises Unavailable (code address_in_use) if the port is taken.
    """
    sockets = StatusSockets(
        hub, sessions, verifier, clock=clock, log=log, settings=settings or SocketSettings()
    )
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Connection(sockets), host, port, backlog=_BACKLOG)
    except OSError as error:
        raise Unavailable(
            f"Cannot listen on {host}:{port}: {error.strerror}", code="address_in_use"
        ) from error
    sweep = sockets.spawn(sockets.sweep())
    try:
        yield sockets, int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        sweep.cancel()
        await sockets.say_goodbye()
