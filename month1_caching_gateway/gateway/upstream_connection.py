"""One connection to a service. It carries one exchange at a time and reads its answer strictly.

An answer is cut by our own framing, so bytes that come after its end, or without having been asked
for, never reach a client: such a connection is closed instead of used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from month1_caching_gateway.gateway.bodies import BadBody, Body, open_body
from month1_caching_gateway.gateway.heads import Framing, ResponseHead
from month1_caching_gateway.gateway.known_heads import KnownAnswers
from month1_caching_gateway.gateway.problems import Refused


class AnswerSink(Protocol):
    """Who asked. Called from the event loop, never after `on_answer(..., ended=True)` or a loss."""

    def on_answer(self, head: ResponseHead | None, pieces: list[bytes], *, ended: bool) -> None:
        """What one read brought: the head once, then payload; ended with the last piece."""
        ...

    def on_upstream_lost(self, refused: Refused) -> None:
        """The connection broke, or the answer cannot be understood."""
        ...

    def on_upstream_writable(self, *, writable: bool) -> None:
        """The service reads slower than we write, or again fast enough."""
        ...


class Origin(Protocol):
    """The endpoint at the other end."""

    @property
    def authority(self) -> bytes:
        """As written in a Host header."""
        ...

    def report(self, *, ok: bool | None) -> None:
        """How a request went there; None: it says nothing about the endpoint."""
        ...


Switched = Callable[[ResponseHead, bytes], None]


class UpstreamConnection(asyncio.Protocol):
    """A keep-alive connection, owned by the pool that opened it.

    on_lost: told once when the connection has ended. on_free: told when its user is done with it.
    origin: the endpoint. fresh: no exchange was completed on it. known: the heads of this
    endpoint's answers.
    """

    def __init__(
        self,
        origin: Origin,
        on_lost: Callable[[UpstreamConnection], None],
        on_free: Callable[[UpstreamConnection], None],
        *,
        known: KnownAnswers,
        max_head_bytes: int,
        buffer_bytes: int,
    ) -> None:
        self.origin = origin
        self.authority = origin.authority
        self.fresh = True
        self.idle_since_s = 0.0
        self.answered_any_byte = False
        self._on_lost = on_lost
        self._on_free = on_free
        self._known = known
        self._max_head_bytes = max_head_bytes
        self._buffer_bytes = buffer_bytes
        self._transport: asyncio.Transport | None = None
        self._sink: AnswerSink | None = None
        self._to_head_request = False
        self._on_switched: Switched | None = None
        self._head: ResponseHead | None = None
        self._body: Body | None = None
        self._inbox = b""
        self._rest = b""
        self._paused = False

    @property
    def alive(self) -> bool:
        """False from the moment closing began."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(
        self,
        sink: AnswerSink,
        request: bytes,
        *,
        to_head_request: bool,
        on_switched: Switched | None = None,
    ) -> None:
        """Send the beginning (or all) of a request; `sink` hears the answer.

        on_switched: hears a 101, which is otherwise no answer, and what came after it.
        """
        self._sink = sink
        self._on_switched = on_switched
        self._to_head_request = to_head_request
        self._head = None
        self._body = None
        self._inbox = b""
        self._rest = b""
        self.answered_any_byte = False
        self.write(request)

    def answer_to(self, sink: AnswerSink) -> None:
        """Let another one hear the rest of the answer."""
        self._sink = sink

    def write(self, data: bytes) -> None:
        """Send more of the request. Ignored once the connection is closing."""
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading the answer: the client is slower than the service."""
        if not self._paused and self._transport is not None and self.alive:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._transport is not None:
            self._paused = False
            if self.alive:
                self._transport.resume_reading()

    def give_up(self) -> asyncio.Transport | None:
        """Leave the transport to a tunnel, which tells `connection_lost` when it is done."""
        self._sink = None
        self.resume()
        return self._transport

    def free(self) -> None:
        """The answer has ended: back to the pool, which keeps the connection or closes it."""
        self._on_free(self)

    def abort(self) -> None:
        """Drop the connection at once; the sink hears nothing more."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    def may_be_reused(self) -> bool:
        """After an answer has ended: is the connection clean and willing."""
        keep = self._head is not None and self._head.keep_alive
        return keep and self.alive and not self._rest

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._buffer_bytes)

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.abort()  # an answer nobody asked for
            return
        self.answered_any_byte = True
        if self._head is None and not self._inbox and not self._to_head_request:
            end = data.find(b"\r\n\r\n") + 4
            head = self._known.get(data[:end])
            if head is not None and head.length == len(data) - end and head.length:
                self._sink, self._head, self.fresh = None, head, False
                sink.on_answer(head, [data[end:]], ended=True)
                return
        try:
            head, pieces, ended = self._read(data)
        except Refused as refused:
            self._fail(refused)
        except BadBody as error:
            self._fail(Refused(502, "bad_gateway", f"the service's answer is broken: {error}"))
        else:
            if head is not None and head.status == 101 and self._on_switched is not None:
                rest, self._inbox = self._inbox, b""
                self._on_switched(head, rest)
                return
            if ended:
                self._sink = None
                self.fresh = False
            if head is not None or pieces or ended:
                sink.on_answer(head, pieces, ended=ended)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        sink, self._sink = self._sink, None
        self._on_lost(self)
        if sink is None:
            return
        if exc is None and self._head is not None and self._head.framing is Framing.CLOSE:
            sink.on_answer(None, [], ended=True)
        else:
            sink.on_upstream_lost(
                Refused(502, "upstream_closed", "the service closed the connection")
            )

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.on_upstream_writable(writable=False)

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.on_upstream_writable(writable=True)

    def _fail(self, refused: Refused) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.on_upstream_lost(refused)

    def _read(self, data: bytes) -> tuple[ResponseHead | None, list[bytes], bool]:
        head = None
        if self._head is None:
            head = self._read_head(data)
            if head is None:
                return None, [], False
            self._head = head
            if head.status == 101:
                return head, [], False
            self._body = open_body(head.framing, head.length, trailers=True)
            data, self._inbox = self._inbox, b""
        if self._body is None:
            self._rest = data
            return head, [], True
        if not data:
            return head, [], False
        pieces, rest = self._body.feed(data)
        self._rest = rest or b""
        return head, pieces, rest is not None

    def _read_head(self, data: bytes) -> ResponseHead | None:
        """The final head, once it is whole; interim (1xx) ones are dropped."""
        self._inbox = self._inbox + data if self._inbox else data
        while True:
            end = self._inbox.find(b"\r\n\r\n")
            if end > self._max_head_bytes or (end < 0 and len(self._inbox) > self._max_head_bytes):
                raise Refused(502, "bad_gateway", "the service's answer has too long a head")
            if end < 0:
                return None
            raw, self._inbox = self._inbox[: end + 4], self._inbox[end + 4 :]
            head = self._known.read(raw, to_head_request=self._to_head_request)
            if head.status == 101 and self._on_switched is not None:
                return head
            if head.status == 101:
                raise Refused(502, "bad_gateway", "the service changed the protocol unasked")
            if head.status >= 200:
                return head
