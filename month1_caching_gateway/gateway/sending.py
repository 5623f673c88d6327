"""How one request gets onto a connection: the breaker's leave, a connection, one second try.

Rules of a second sending (E3 in exchange.py): no byte of an answer came, the connection was a
reused one, and the request is idempotent by its method or carries a key. A body that was streamed
is gone, so only requests held whole qualify.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol

from month1_caching_gateway.gateway.heads import RequestHead
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Refused, refused_by
from month1_caching_gateway.gateway.upstream_breaker import Permit
from month1_caching_gateway.gateway.upstream_connection import UpstreamConnection
from month1_caching_gateway.gateway.upstream_group import UpstreamGroup
from scalelab.errors import ScalelabError

_IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))

Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]


class Sender(Protocol):
    """Who wants to send: the exchange."""

    def on_connection(self, connection: UpstreamConnection) -> None:
        """Here is a connection: send."""
        ...

    def on_unsent(self, refused: Refused) -> None:
        """There will be none; nothing was sent this time."""
        ...


class Sending:
    """The way of one exchange to its service; made when the request was admitted.

    attempts: how often a connection was handed out.
    """

    __slots__ = ("_group", "_permit", "_plane", "_sender", "_spawn", "_task", "attempts")

    def __init__(self, plane: Plane, sender: Sender, spawn: Spawn) -> None:
        self._plane = plane
        self._sender = sender
        self._spawn = spawn
        self._group: UpstreamGroup | None = None
        self._permit: Permit | None = None
        self._task: asyncio.Task[None] | None = None
        self.attempts = 0

    def open(self, group: UpstreamGroup) -> None:
        """Find a connection of `group` for the first try: at once if one is idle."""
        self._group = group
        try:
            self._permit = group.admit()
        except ScalelabError as error:
            self._sender.on_unsent(refused_by(error))
            return
        connection = group.take_idle()
        if connection is not None:
            self.attempts += 1
            self._sender.on_connection(connection)
        else:
            self._task = self._spawn(self._connect(group, fresh=False))

    def may_resend(self, lost: UpstreamConnection, head: RequestHead, *, held: bool) -> bool:
        """E3. held: the whole request is at hand."""
        repeatable = head.method in _IDEMPOTENT or b"idempotency-key" in head.named
        untouched = not lost.fresh and not lost.answered_any_byte
        return held and repeatable and untouched and self.attempts == 1

    def resend(self) -> None:
        """Once more, on a connection that nobody used before."""
        self._plane.metrics.event("retry_after_lost_idle_connection")
        if self._group is not None:
            self._task = self._spawn(self._connect(self._group, fresh=True))

    def report(self, *, ok: bool | None) -> None:
        """Tell the breaker, once. None: the call says nothing about the service's health."""
        permit, self._permit = self._permit, None
        if permit is not None:
            permit.report(ok=ok)

    def cancel(self) -> None:
        """Nobody wants the connection any more."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def _connect(self, group: UpstreamGroup, *, fresh: bool) -> None:
        try:
            connection = await group.acquire(fresh=fresh)
        except ScalelabError as error:
            self.report(ok=None if error.stable_code == "upstream_busy" else False)
            self._sender.on_unsent(refused_by(error))
        else:
            self.attempts += 1
            self._sender.on_connection(connection)
