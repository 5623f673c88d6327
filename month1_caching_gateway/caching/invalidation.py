"""Hear of other processes' writes from Redis, and know when nothing is heard any more.

Two ways, one connection (RESP3, whose pushes and answers come in one order):

    TRACKING  CLIENT TRACKING in broadcasting mode for the namespace's prefix: Redis says which key
              changed, whoever changed it, also by expiry, eviction or FLUSHALL. It does not say to
              what, and fills are changes too: after each fill the next look goes to Redis once.
    PUBSUB    the channel on which `put.lua` announces every write with its version, in the same
              step. Quieter and exact; silent about what was not written through this library.

Theory of operation
    A connection can be dead without a sign. So every `heartbeat_s` a PING goes out; when its PONG
    comes, everything Redis had accepted before the PING was sent has been heard, as it stands
    before the PONG in the same stream. The tier may then be trusted for `silence_s` from the
    instant the PING was *sent*. No PONG in that time: the connection is given up, the tier
    emptied and passed by until a new connection has its first PONG.

Guarantee
    T1  A write that Redis accepted at instant t is not covered by an older value from this
        process's tier after t + silence_s, whatever happens to the network, to Redis or to this
        process (a stopped process wakes up with a tier nobody trusts). Usually it takes one trip.

Redis drops a listener that reads too slowly (client-output-buffer-limit): that is a lost
connection as any other. TLS and Unix sockets are not supported here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Protocol

import hiredis
from redis.asyncio import Redis

from month1_caching_gateway.caching.events import HearingChanged, Hook, ignore
from month1_caching_gateway.caching.redis_store import channel_of
from scalelab.clock import Clock
from scalelab.errors import CorruptData, InvalidInput, Unavailable

_NOTHING = object()
_RETRY_S = 0.1
_VERSION_DIGITS = 16


class Mode(Enum):
    """How writes of others are heard."""

    TRACKING = "tracking"
    PUBSUB = "pubsub"


class Listener(Protocol):
    """Who is told: a process's tier, a filter of known keys."""

    def bust(self, key: str, version: int | None) -> None:
        """A write made `version`; None: changed to something unknown."""
        ...

    def heard(self, trusted_until_s: float) -> None:
        """Until that instant of the monotonic clock all writes are told in time."""
        ...

    def lost(self) -> None:
        """Writes may have been missed, or every key is gone: what is known is worth nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Hearing:
    """heartbeat_s: between two PINGs. silence_s: the longest without a PONG, at least twice that;
    bounds how long a missed write can be covered. Shorter costs more pings and false alarms."""

    heartbeat_s: float = 0.25
    silence_s: float = 1.0

    def __post_init__(self) -> None:
        if self.heartbeat_s <= 0 or self.silence_s < 2 * self.heartbeat_s:
            raise InvalidInput(
                f"silence_s {self.silence_s} is less than two heartbeats of {self.heartbeat_s} s",
                field="silence_s",
            )


class Invalidations:
    """An async context manager: inside it a task listens, and comes back after every loss.

    redis: the client whose server, database and password are used; its pool is not.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        namespace: str,
        mode: Mode,
        listeners: Sequence[Listener],
        clock: Clock,
        hearing: Hearing | None = None,
        hook: Hook = ignore,
    ) -> None:
        self._address = redis.connection_pool.connection_kwargs
        self._prefix = namespace + ":"
        self._channel = channel_of(redis, namespace)
        self._mode = mode
        self._listeners = listeners
        self._now_s = clock.monotonic_s
        self._hearing = hearing or Hearing()
        self._hook = hook
        self._hears = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Invalidations:
        self._task = asyncio.create_task(self._run(), name=f"invalidations of {self._prefix}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, Unavailable, CorruptData):
                await self._listen()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self) -> None:
        """One connection, from first to last."""
        async with asyncio.timeout(self._hearing.silence_s):
            reader, writer = await asyncio.open_connection(
                self._address.get("host", "localhost"), self._address.get("port", 6379)
            )
        stream = _Stream(reader, writer)
        try:
            async with asyncio.timeout(self._hearing.silence_s):
                await self._introduce(stream)
            while True:
                await self._beat(stream)
        finally:
            self._tell_lost()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _introduce(self, stream: _Stream) -> None:
        hello: list[str] = ["HELLO", "3"]
        if self._address.get("password"):
            user = self._address.get("username") or "default"
            hello += ["AUTH", str(user), str(self._address["password"])]
        commands = [hello]
        if self._mode is Mode.TRACKING:
            commands.append(["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._prefix])
        else:
            commands.append(["SUBSCRIBE", self._channel])
        for command in commands:
            stream.send(command)
            while True:
                message = await stream.next()
                if not isinstance(message, hiredis.PushNotification):
                    break
                if message[0] == b"subscribe":
                    break
                self._take(message)

    async def _beat(self, stream: _Stream) -> None:
        """One PING, and everything that comes until the next is due."""
        sent_at_s = self._now_s()
        stream.send(["PING"])
        async with asyncio.timeout(self._hearing.silence_s):
            while await self._next(stream) != b"PONG":
                pass
        self._heard(sent_at_s + self._hearing.silence_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._hearing.heartbeat_s):
                while True:
                    await self._next(stream)

    async def _next(self, stream: _Stream) -> object:
        message = await stream.next()
        if isinstance(message, hiredis.PushNotification):
            self._take(message)
        return message

    def _take(self, message: Sequence[Any]) -> None:
        if message[0] == b"invalidate":
            if message[1] is None:  # FLUSHALL or FLUSHDB
                self._tell_lost()
                return
            for name in message[1]:
                self._tell(name, None)
        elif message[0] == b"message":
            announced: bytes = message[2]
            digits = announced[:_VERSION_DIGITS]
            if not digits.isdigit():
                raise CorruptData("an announcement without a version")
            self._tell(announced[_VERSION_DIGITS:], int(digits))

    def _tell(self, name: bytes, version: int | None) -> None:
        text = name.decode(errors="replace")
        if text.startswith(self._prefix):
            for listener in self._listeners:
                listener.bust(text[len(self._prefix) :], version)

    def _heard(self, trusted_until_s: float) -> None:
        if not self._hears:
            self._hears = True
            self._hook(HearingChanged(hears=True))
        for listener in self._listeners:
            listener.heard(trusted_until_s)

    def _tell_lost(self) -> None:
        if self._hears:
            self._hears = False
            self._hook(HearingChanged(hears=False))
        for listener in self._listeners:
            listener.lost()


class _Stream:
    """Commands out, RESP3 messages in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._incoming = reader
        self._outgoing = writer
        self._parser = hiredis.Reader(notEnoughData=_NOTHING)

    def send(self, command: Sequence[str]) -> None:
        parts = b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in map(str.encode, command))
        self._outgoing.write(b"*%d\r\n%b" % (len(command), parts))

    async def next(self) -> object:
        """The next message. Raises Unavailable when Redis hung up or refused a command."""
        while True:
            try:
                message = self._parser.gets()
            except hiredis.ProtocolError as error:
                raise CorruptData("Redis sent bytes that are no RESP3") from error
            if isinstance(message, hiredis.ReplyError):
                raise Unavailable(f"Redis refused to let us listen: {message}")
            if message is not _NOTHING:
                return message
            data = await self._incoming.read(2**16)
            if not data:
                raise Unavailable("Redis hung up")
            self._parser.feed(data)
