"""One client's connection: cuts requests out of the stream, one at a time, and keeps deadlines.

Theory of operation
    Bytes go to `_inbox`. A head is cut at its empty line and becomes an `Exchange`; its body is
    read only while the exchange takes it; what follows waits, unread, until the answer is written.
    So pipelined requests are served in order, and one whose predecessor was refused with `close` is
    never looked at. When the inbox is full the socket is not read: the sender feels it.

Deadlines (checked by the gateway's sweep, all against slow clients)
    head    from the first byte of a request (or from the accept) to its empty line: 408
    idle    between requests: closed
    body    so many bytes in every window while we read: 408
    write   the client takes nothing of what is written: closed
    linger  after a refusal with unread input: input is thrown away for a moment, because closing
            with unread input would destroy the answer on its way
"""

from __future__ import annotations

import asyncio
from typing import cast

from month1_caching_gateway.gateway.account import refusal_of_nothing
from month1_caching_gateway.gateway.bodies import BadBody, Body, open_body
from month1_caching_gateway.gateway.exchange import Exchange
from month1_caching_gateway.gateway.half_close import half_close
from month1_caching_gateway.gateway.headers import Caller, caller
from month1_caching_gateway.gateway.heads import Framing
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Refused
from month1_caching_gateway.gateway.remembered import remembered_answer
from month1_caching_gateway.gateway.snapshot import Snapshot
from month1_caching_gateway.gateway.tunnel import Tunnel

_NEVER_S = float("inf")
_NO_BODY = Framing.NONE  # reading a member off its Enum is a call
_EMPTY_LINE = b"\r\n\r\n"


class ClientConnection(asyncio.Protocol):
    """Registers itself in `connections` while it is open.

    Raises nothing; a fault of the client ends in a refusal or a closed connection.
    """

    def __init__(self, plane: Plane, connections: set[ClientConnection]) -> None:
        self.peer = ""
        self.caller: Caller | None = None
        self._plane = plane
        self._settings = plane.settings
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._inbox = b""
        self._body: Body | None = None
        self._body_bytes = 0
        self._window_bytes = 0
        self._advancing = False
        self._reading_is_paused = False
        self._writing_is_paused = False
        self._last_write_backlog = 0
        self._closing = False
        self._served = False
        self._read_deadline_s = _NEVER_S
        self._write_deadline_s = _NEVER_S

    # The transport's calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= self._settings.max_connections or self._plane.draining:
            self._plane.metrics.event("connection_refused")
            self._closing = True
            self._transport.abort()
            return
        self._connections.add(self)
        self._transport.set_write_buffer_limits(high=self._settings.buffer_bytes)
        address = self._transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else ""
        if self.peer not in self._settings.trusted_proxies:
            self.caller = caller(self.peer, self._settings.forwarded_proto.encode())
        self._read_deadline_s = self._after(self._settings.head_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._inbox = self._inbox + data if self._inbox else data
        self._advance()

    def eof_received(self) -> bool:
        """A client that half-closes has gone, as for most proxies: it may not read any more."""
        self._leave_exchange()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._connections.discard(self)
        self._leave_exchange()
        self._inbox = b""

    def pause_writing(self) -> None:
        self._writing_is_paused = True
        self._last_write_backlog = self._write_backlog()
        self._write_deadline_s = self._after(self._settings.slow_reader_timeout_s)
        if self._exchange is not None:
            self._exchange.on_client_writable(writable=False)

    def resume_writing(self) -> None:
        self._writing_is_paused = False
        if not self._closing:
            self._write_deadline_s = _NEVER_S
        if self._exchange is not None:
            self._exchange.on_client_writable(writable=True)
        else:
            self._advance()

    # The exchange's calls.

    @property
    def body_is_read(self) -> bool:
        return self._body is None

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def mind_body(self) -> None:
        self._advance()

    def skip_body(self) -> bool:
        if self._body is not None and self._inbox:
            try:
                _, rest = self._body.feed(self._inbox)
            except BadBody:
                return False
            self._inbox = rest or b""
            if rest is not None:
                self._body = None
        return self._body is None

    def answered(self, *, keep_alive: bool) -> None:
        self._exchange = None
        self._served = True
        if not keep_alive or self._body is not None:
            self._close_gently(linger=self._body is not None or bool(self._inbox))
            return
        self._read_deadline_s = self._after(self._settings.idle_timeout_s)
        if not self._advancing and (self._inbox or self._reading_is_paused):
            self._advance()

    def become(self, tunnel: Tunnel) -> tuple[asyncio.Transport, bytes] | None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return None
        self._exchange, self._tunnel = None, tunnel
        self._read_deadline_s = self._write_deadline_s = _NEVER_S
        early, self._inbox = self._inbox, b""
        return transport, early

    def abort(self) -> None:
        self._closing = True
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # The gateway's calls.

    @property
    def busy(self) -> bool:
        """A request is being read or answered, or an answer is still being sent."""
        if self._tunnel is not None:
            return True
        return self._exchange is not None or bool(self._inbox) or self._write_backlog() > 0

    @property
    def in_force(self) -> Snapshot | None:
        """What the present request began under; None between requests."""
        runs = self._tunnel or self._exchange
        return None if runs is None else runs.account.in_force

    @property
    def wanted(self) -> bool:
        """A drain waits for it: it is busy, or may bring a request at any moment."""
        return self.busy or not self._closing

    def close_if_idle(self, since_s: float) -> None:
        """Drain: go, if no request has come since that instant.

        Not at once: a request that is on its way would meet a closed door. The answer to one that
        comes in time says `Connection: close`.
        """
        settings = self._settings
        patience_s = settings.idle_timeout_s if self._served else settings.head_timeout_s
        if not self.busy and self._read_deadline_s - patience_s <= since_s:
            self._close_gently(linger=False)

    def abort_for_stop(self) -> None:
        """Drain has ended: the connection goes, with whatever runs on it."""
        if self._tunnel is not None:
            self._tunnel.cut()
            return
        self._leave_exchange()
        self.abort()

    def sweep(self, now_s: float) -> None:
        """Act on the deadlines that have passed."""
        if now_s > self._write_deadline_s:
            self._on_write_deadline()
        elif now_s > self._read_deadline_s:
            self._on_read_deadline()
        elif (runs := self._exchange or self._tunnel) is not None and now_s > runs.deadline_s:
            runs.on_deadline()

    # Inside.

    def _advance(self) -> None:
        """Go through the inbox as far as exchanges allow. Not recursive: answers end up here."""
        if self._advancing or self._closing:
            return
        self._advancing = True
        try:
            while self._inbox and not self._closing and not self._writing_is_paused:
                if self._exchange is None:
                    if not self._begin_request():
                        break
                elif self._body is not None and self._exchange.wants_body:
                    self._read_body(self._exchange, self._body)
                else:
                    break
        finally:
            self._advancing = False
        self._mind_reading()

    def _begin_request(self) -> bool:
        try:
            raw = self._cut_head()
            if raw is None:
                return False
            head = self._plane.known_heads.read(raw)
        except Refused as refused:
            self._refuse_unread(refused)
            return False
        interceptor = self._plane.interceptor
        if interceptor is not None:
            known = remembered_answer(self._plane, interceptor, self, head)
            if known is not None:
                self.write(known)
                self._served = True
                self._read_deadline_s = self._after(self._settings.idle_timeout_s)
                return True
        self._read_deadline_s = _NEVER_S
        if head.framing is not _NO_BODY:
            self._body = open_body(head.framing, head.length, trailers=False)
            self._body_bytes = self._window_bytes = 0
            self._read_deadline_s = self._after(self._settings.body_window_s)
        exchange = self._exchange = Exchange(self._plane, self, head)
        exchange.begin()
        return True

    def _cut_head(self) -> bytes | None:
        """The next head, taken out of the inbox; None while it is not whole."""
        if self._inbox.startswith(b"\r\n"):
            self._inbox = self._inbox[2:]  # RFC 9112 section 2.2: one empty line is forgiven
        inbox, settings = self._inbox, self._settings
        longest = settings.max_request_line_bytes
        if len(inbox) > longest and inbox.find(b"\r\n", 0, longest + 2) < 0:
            raise Refused(414, "target_too_long", "the request line is too long", close=True)
        end = inbox.find(_EMPTY_LINE, 0, settings.max_head_bytes + len(_EMPTY_LINE))
        if end >= 0:
            self._inbox = inbox[end + len(_EMPTY_LINE) :]
            return inbox[: end + len(_EMPTY_LINE)]
        if len(inbox) > settings.max_head_bytes:
            raise Refused(431, "header_too_large", "the request's head is too long", close=True)
        if inbox.count(b"\n") != inbox.count(b"\r\n"):
            raise Refused(400, "bad_request", "lines end in CRLF", close=True)
        self._read_deadline_s = min(self._read_deadline_s, self._after(settings.head_timeout_s))
        return None

    def _read_body(self, exchange: Exchange, body: Body) -> None:
        data, self._inbox = self._inbox, b""
        try:
            pieces, rest = body.feed(data)
        except BadBody as error:
            detail = f"the body is malformed: {error}"
            exchange.on_body_failed(Refused(400, "bad_request", detail, close=True))
            return
        taken = len(data) - len(rest or b"")
        self._body_bytes += taken
        self._window_bytes += taken
        if self._body_bytes > exchange.account.max_body_bytes:
            detail = f"the body is larger than {exchange.account.max_body_bytes} bytes"
            exchange.on_body_failed(Refused(413, "body_too_large", detail, close=True))
            return
        if rest is not None:
            self._inbox = rest
            self._body = None
            self._read_deadline_s = _NEVER_S
        exchange.on_body(pieces, ended=rest is not None)

    def _mind_reading(self) -> None:
        """Read the socket while there is room. A waiting request's end is still noticed."""
        if not self._inbox and not self._reading_is_paused:
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        body_waits = self._body is not None and not (
            self._exchange is None or self._exchange.wants_body
        )
        limit = 0 if body_waits else self._settings.buffer_bytes
        full = not self._closing and len(self._inbox) > limit
        if full and not self._reading_is_paused:
            transport.pause_reading()
        elif not full and self._reading_is_paused:
            transport.resume_reading()
        self._reading_is_paused = full

    def _refuse_unread(self, refused: Refused) -> None:
        """What came cannot be read as a request, so nothing after it can be either."""
        self.write(refusal_of_nothing(self._plane, self.peer, refused))
        self._close_gently(linger=True)

    def _close_gently(self, *, linger: bool) -> None:
        """Close once all is written. linger: more input may be on its way; let it run dry first."""
        transport = self._transport
        if transport is None or self._closing or transport.is_closing():
            return
        self._closing = True
        self._inbox = b""
        self._read_deadline_s = _NEVER_S
        self._last_write_backlog = self._write_backlog()
        patience_s = self._settings.linger_s
        if self._last_write_backlog:
            patience_s = self._settings.slow_reader_timeout_s
        self._write_deadline_s = self._after(patience_s)
        if linger and half_close(transport):
            self._mind_reading()
        else:
            transport.close()

    def _leave_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_client_lost()

    def _on_read_deadline(self) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._inbox:
                self._plane.metrics.event("slow_head")
                detail = "the request did not come in time"
                self._refuse_unread(Refused(408, "request_timeout", detail, close=True))
            else:
                self._close_gently(linger=False)
            return
        enough = self._window_bytes >= self._settings.body_window_bytes
        if enough or not exchange.wants_body:
            self._window_bytes = 0
            self._read_deadline_s = self._after(self._settings.body_window_s)
            return
        self._plane.metrics.event("slow_body")
        detail = "the body did not come in time"
        exchange.on_body_failed(Refused(408, "body_timeout", detail, close=True))

    def _on_write_deadline(self) -> None:
        backlog = self._write_backlog()
        moved = self._last_write_backlog - backlog
        if backlog and moved >= self._settings.body_window_bytes:
            self._last_write_backlog = backlog
            self._write_deadline_s = self._after(self._settings.slow_reader_timeout_s)
            return
        if backlog:
            self._plane.metrics.event("slow_reader")
        self._leave_exchange()
        self.abort()

    def _write_backlog(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _after(self, seconds: float) -> float:
        return self._plane.clock.monotonic_s() + seconds
