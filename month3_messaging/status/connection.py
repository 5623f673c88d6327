"""One WebSocket client: handshake, commands, updates, and the end; a callback protocol.

Theory of operation
    Nothing that tells a client something waits for it. `hear` puts the update into the client's
    queue, the server's next flush writes what is there, unless the socket has taken nothing for a
    while (`pause_writing`): then the queue keeps the latest state per order until it does again.
    So a client that never reads costs `write_high` bytes, the kernel's buffer and an update per
    order it follows, and delays nobody. Commands are carried out one after the other; while
    `_COMMANDS_MAX` of them wait, or the client does not read, nothing is read from it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast
from uuid import UUID

from month3_messaging.status.client_queue import ClientQueue, Update
from month3_messaging.status.frames import (
    CloseCode,
    FrameReader,
    Message,
    Opcode,
    ProtocolError,
    encode,
    encode_close,
)
from month3_messaging.status.handshake import HeadReader, accept, read_upgrade, refuse
from month3_messaging.status.liveness import Signs
from month3_messaging.status.messages import (
    COMMAND_LIMIT,
    Follow,
    change_frame,
    ended_frame,
    read_command,
    refused_frame,
    status_frame,
)
from scalelab.errors import InvalidInput, RateLimited, Retryable, ScalelabError
from scalelab.security import Principal

if TYPE_CHECKING:
    from month3_messaging.status.websocket import StatusSockets

_COMMANDS_MAX = 16
_PING = encode(Opcode.PING, b"")


class Connection(asyncio.Protocol):
    """A client of `server`, which owns the tasks made here and sweeps over all connections."""

    __slots__ = (
        "_admitted",
        "_closing",
        "_commands",
        "_head",
        "_looks",
        "_principal",
        "_queue",
        "_reader",
        "_server",
        "_task",
        "_transport",
        "_writable",
        "dirty",
        "signs",
    )

    def __init__(self, server: StatusSockets) -> None:
        self._server = server
        self._queue = ClientQueue()
        self._head: HeadReader | None = HeadReader()
        self._reader: FrameReader | None = None
        self._principal: Principal | None = None
        self._admitted: ExitStack | None = None
        self._commands: deque[Message] = deque()
        self._looks: set[UUID] = set()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Event | None = None
        self._closing = False
        self.dirty = False
        self.signs = Signs(heard_s=0.0, asked_s=0.0, expires_s=0.0)

    # The transport's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.joined(self)
        now_s = self._server.now_s()
        settings = self._server.settings
        # Until the upgrade is answered, patience is short and the token unknown.
        self.signs = Signs(now_s, now_s, now_s + settings.handshake_s)
        self._transport.set_write_buffer_limits(high=settings.write_high)
        self._server.bound_send_buffer(self._transport)

    def data_received(self, data: bytes) -> None:
        self.signs.heard_s = self._server.now_s()
        try:
            if self._head is not None:
                rest = self._head.feed(data)
                if rest is None:
                    return
                if rest:
                    raise InvalidInput("wait for the answer", code="malformed_request")
                head, self._head = self._head, None
                self._transport.pause_reading()
                self._task = self._server.spawn(self._open(head))
            elif self._reader is not None:
                for message in self._reader.feed(data):
                    if message.opcode is Opcode.CLOSE:
                        self._hang_up()
                    elif not self._closing:
                        self._on_message(message)
        except ProtocolError as error:
            self.end(error.close_code, error.message)
        except ScalelabError as error:
            self._refuse(error, "" if self._head is None else self._head.path)

    def pause_writing(self) -> None:
        self.signs.stalled_s = self._server.now_s()
        self._writable = asyncio.Event()
        if self._reader is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.signs.stalled_s = None
        if self._writable is not None:
            self._writable.set()
            self._writable = None
        if len(self._queue):
            self._server.flush_soon(self)
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._server.left(self)
        for order_id in self._queue.followed:
            self._server.followers.unfollow(order_id, self)
        if self._admitted is not None:
            self._admitted.close()
        if self._task is not None:
            self._task.cancel()

    # What a hub calls.

    def hear(self, update: Update) -> None:
        """Let the update wait for the next flush."""
        if update.is_final:
            self._look(update.order_id)
        at_once = self._server.at_once and self._writable is None and not self._closing
        if at_once and self._queue.pass_on(update):
            self._transport.write(update.frame(status_frame))
        elif self._queue.offer(update) and not self.dirty:
            self._server.flush_soon(self)

    def look_again(self) -> None:
        """Ask the history about everything followed."""
        self._looks.update(self._queue.followed)
        self._work()

    # What the server calls.

    def flush(self) -> None:
        """Write what waits, unless the client does not read."""
        self.dirty = False
        if self._writable is None and not self._closing:
            frames = [update.frame(status_frame) for update in self._queue.take()]
            if frames:
                self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def ask(self) -> None:
        """Send a ping; its answer shows in `signs.heard_s`."""
        self.signs.asked_s = self._server.now_s()
        if self._writable is None:
            self._transport.write(_PING)

    def end(self, code: CloseCode, reason: str = "") -> None:
        """Say why, and hang up when the client has answered; the sweep does if it never does."""
        if self._closing:
            return
        self._closing = True
        if self._reader is None or self._writable is not None:
            self._transport.abort()  # it reads nothing, so it is told nothing
            return
        self.signs.expires_s = self._server.now_s() + self._server.settings.goodbye_s
        self._transport.write(encode_close(code, reason))
        self._transport.resume_reading()
        if self._reader.broken:
            self._transport.close()

    def abort(self) -> None:
        """Hang up now."""
        self._transport.abort()

    def retry_looks(self) -> None:
        """Go on with what could not be read a moment ago."""
        if self._looks:
            self._work()

    @property
    def ending(self) -> bool:
        """Whether goodbye has been said."""
        return self._closing

    @property
    def waiting_bytes(self) -> int:
        """Bytes written that the kernel has not taken."""
        return self._transport.get_write_buffer_size()

    # Handshake.

    async def _open(self, head: HeadReader) -> None:
        try:
            upgrade = read_upgrade(head, origins=self._server.settings.origins)
            principal = await self._server.authenticate(upgrade.token)
            with ExitStack() as stack:
                stack.enter_context(self._server.followers.admit(principal.subject))
                self._admitted = stack.pop_all()
        except ScalelabError as error:
            self._refuse(error, head.path)
            return
        self._principal = principal
        self.signs.expires_s = self._server.monotonic_of(principal.expires_at)
        self._reader = FrameReader(COMMAND_LIMIT)
        self._transport.write(accept(upgrade))
        self._task = None
        self._read_on()

    def _refuse(self, error: ScalelabError, path: str) -> None:
        self._closing = True
        self.signs.expires_s = self._server.now_s() + self._server.settings.goodbye_s
        self._transport.write(refuse(error, path))
        self._transport.close()

    # Commands and looks into the history: one task at a time, only while there is something.

    def _on_message(self, message: Message) -> None:
        match message.opcode:
            case Opcode.PING:
                self._transport.write(encode(Opcode.PONG, message.data))
            case Opcode.BINARY:
                self.end(CloseCode.UNSUPPORTED_DATA, "commands are text")
            case Opcode.TEXT:
                self._commands.append(message)
                if len(self._commands) >= _COMMANDS_MAX:
                    self._transport.pause_reading()
                self._work()
            case _:
                pass

    def _hang_up(self) -> None:
        """The client said goodbye, or answered ours."""
        if not self._closing:
            self._closing = True
            self.signs.expires_s = self._server.now_s() + self._server.settings.goodbye_s
            self._transport.write(encode_close(CloseCode.NORMAL))
        self._transport.close()

    def _read_on(self) -> None:
        reads = self._writable is None and len(self._commands) < _COMMANDS_MAX
        if reads and self._reader is not None and not self._closing:
            self._transport.resume_reading()

    def _look(self, order_id: UUID) -> None:
        self._looks.add(order_id)
        self._work()

    def _work(self) -> None:
        if self._task is None and not self._closing:
            self._task = self._server.spawn(self._carry_out())

    async def _carry_out(self) -> None:
        try:
            while (self._commands or self._looks) and not self._closing:
                if self._writable is not None:
                    await self._writable.wait()
                if self._commands:
                    await self._command(self._commands.popleft())
                    self._read_on()
                else:
                    await self._read_history(self._looks.pop())
        except Retryable:
            pass  # the sweep tries the looks again
        finally:
            self._task = None

    async def _command(self, message: Message) -> None:
        order_id: UUID | None = None
        try:
            command = read_command(message.data)
            order_id = command.order_id
            if isinstance(command, Follow):
                await self._follow(command)
            else:
                self._forget(order_id)
        except ScalelabError as error:
            if order_id is not None:
                self._forget(order_id)
            self._write(refused_frame(order_id, error))

    async def _follow(self, command: Follow) -> None:
        order_id = command.order_id
        followed = self._queue.followed
        if order_id not in followed and len(followed) >= self._server.settings.orders_max:
            raise RateLimited("too many orders are followed here", code="too_many_orders")
        assert self._principal is not None
        await self._server.check_owner(order_id, self._principal)
        # Follow first, read then: what happens in between waits in the queue.
        self._queue.follow(order_id)
        self._server.followers.follow(order_id, self)
        await self._read_history(order_id, command.after)

    async def _read_history(self, order_id: UUID, after: int | None = None) -> None:
        if not self._queue.follows(order_id):
            return
        known = self._queue.known(order_id) if after is None else after
        try:
            progress = await self._server.progress(order_id, known)
        except ScalelabError:
            if after is None:
                self._looks.add(order_id)
            raise
        # A flush may have handed out some of them meanwhile.
        known = max(known, self._queue.known(order_id))
        news = [change for change in progress.changes if change.version > known]
        self._queue.load(order_id, news[-1].version if news else known)
        for change in news:
            self._write(change_frame(order_id, change))
        if progress.ended:
            self._forget(order_id)
            self._write(ended_frame(order_id))
        elif len(self._queue):
            self._server.flush_soon(self)

    def _forget(self, order_id: UUID) -> None:
        self._queue.unfollow(order_id)
        self._looks.discard(order_id)
        self._server.followers.unfollow(order_id, self)

    def _write(self, frame: bytes) -> None:
        if not self._closing:
            self._transport.write(frame)
