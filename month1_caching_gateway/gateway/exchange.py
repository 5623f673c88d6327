"""One request's way through the gateway, from its head to the end of its answer.

Theory of operation
    The fast path is callbacks only. A task is made when something has to wait: a token or an
    allowance to be checked, a connection to be opened.

        ADMITTING  -> BUFFERING (a small body is read whole) ->  OPENING -> SENDING -> ANSWERING
                   \\-> OPENING (a large or chunked body waits in the client's socket) ->/

    Both directions push back: when one side cannot write, the other is not read. Nothing here
    buffers more than one read of each side beyond the transports' own limits.

Invariants (tests cite them)
    E1  Every request ends in exactly one of: a whole answer, a refusal, a closed connection.
    E2  An answer that has begun is never followed by another; if it breaks, the client's
        connection is closed, so that it cannot be taken for whole.
    E3  A request is sent again only if nothing of an answer has reached the client, and only if it
        is idempotent by its method or carries a key; how often and where: sending.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from month1_caching_gateway.gateway.account import Account
from month1_caching_gateway.gateway.admission import Admitted
from month1_caching_gateway.gateway.bodies import chunks
from month1_caching_gateway.gateway.client_side import ClientSide
from month1_caching_gateway.gateway.heads import Framing, RequestHead, ResponseHead
from month1_caching_gateway.gateway.interception import Interceptor, OwnAnswer, Seat, Tap
from month1_caching_gateway.gateway.phase import Phase
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Header, Refused
from month1_caching_gateway.gateway.sending import Sending
from month1_caching_gateway.gateway.tunnel import open_tunnel
from month1_caching_gateway.gateway.upstream_breaker import UNHEALTHY, health_of
from month1_caching_gateway.gateway.upstream_connection import UpstreamConnection
from month1_caching_gateway.gateway.websocket import is_switch

# Bound once: reading a member off its Enum is a call.
_NO_BODY, _CHUNKED, _CLOSE = Framing.NONE, Framing.CHUNKED, Framing.CLOSE
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_NEVER_S = float("inf")
CLIENT_GONE = 499


class Exchange:
    """Made for each request head; driven by the client's and the upstream's connection."""

    __slots__ = (
        "_answer",
        "_answer_framing",
        "_body",
        "_client",
        "_connection",
        "_head",
        "_keep_alive",
        "_phase",
        "_plane",
        "_sending",
        "_tap",
        "_task",
        "_upstream_full",
        "account",
        "deadline_s",
    )

    def __init__(self, plane: Plane, client: ClientSide, head: RequestHead) -> None:
        self._plane = plane
        self._client = client
        self._head = head
        self.account = Account(plane, client.caller, client.peer, head)
        self._phase = Phase.ADMITTING
        self.deadline_s = _NEVER_S
        self._sending = Sending(plane, self, self.account, self._spawn)
        self._tap: Tap | None = None
        self._task: asyncio.Task[None] | None = None
        self._connection: UpstreamConnection | None = None
        self._upstream_full = False
        self._body: list[bytes] = []
        self._answer: ResponseHead | None = None
        self._answer_framing = _NO_BODY
        self._keep_alive = head.keep_alive

    # What the client's connection calls.

    @property
    def wants_body(self) -> bool:
        """Whether body bytes can be taken now."""
        if self._phase is Phase.BUFFERING:
            return True
        return self._phase in (Phase.SENDING, Phase.ANSWERING) and not self._upstream_full

    def begin(self) -> None:
        """Decide what can be decided at once, and go as far as possible."""
        try:
            route = self.account.resolve()
            admission = self.account.in_force.admission
            admitted = admission.try_now(route, self._head, self.account.client_ip)
        except Refused as refused:
            self._refuse(refused)
            return
        except Exception as error:  # noqa: BLE001 - as in `_guarded`
            self._fail(error)
            return
        if isinstance(admitted, Admitted):
            self._proceed(admitted)
        elif admitted is None:
            self._task = self._spawn(self._admit())
        else:
            admitted.tell(self._proceed, self._refuse, self._fail)

    def on_body(self, pieces: list[bytes], *, ended: bool) -> None:
        """The next payload of the request."""
        self.account.bytes_in += sum(map(len, pieces))
        if self._phase is Phase.BUFFERING:
            self._body.extend(pieces)
            if ended:
                self._open()
            return
        connection = self._connection
        if connection is None:
            return
        if self._head.framing is _CHUNKED:
            pieces = chunks(pieces, ended=ended)
        if pieces:
            connection.write(b"".join(pieces))
        if ended:
            self._phase = Phase.ANSWERING
            self._expect_more()

    def on_body_failed(self, refused: Refused) -> None:
        """The body is malformed, too large or too slow: the request cannot be completed."""
        self._drop_upstream()
        if self._answer is not None:
            self._break_off(refused.code)
        else:
            self._refuse(refused)

    def on_client_lost(self) -> None:
        """The client has gone: whatever runs for it stops."""
        if self._phase is Phase.DONE:
            return
        self._drop_upstream()
        self._finish(CLIENT_GONE, "client_closed")

    def on_client_writable(self, *, writable: bool) -> None:
        """The client reads slower than the answer comes, or again fast enough."""
        connection = self._connection
        if connection is None:
            return
        if writable:
            connection.resume()
            self._expect_more()
        else:
            connection.pause()
            self.deadline_s = _NEVER_S  # the wait is the client's doing; it has a deadline there

    def on_deadline(self) -> None:
        """The upstream was silent, or did not read, for longer than the route or the try allows."""
        until_s = self._sending.late(self._connection) if self._answer is None else None
        if until_s is not None:
            self.deadline_s = until_s
            return
        self._sending.report(ok=False)
        self._drop_upstream()
        if self._answer is not None:
            self._break_off("upstream_timeout")
        else:
            self._refuse(Refused(504, "upstream_timeout", "the service did not answer in time"))

    # What the upstream's connection calls.

    def on_answer(self, head: ResponseHead | None, pieces: list[bytes], *, ended: bool) -> None:
        out: list[bytes] = []
        if head is not None:
            if head.status in UNHEALTHY and self._sending.rejects(head, self._connection):
                return
            out.append(self._answer_head(head))
        for piece in pieces:
            self.account.bytes_out += len(piece)
        if self._tap is not None:
            self._tap.on_body(pieces, ended=ended)
            if ended:
                self._tap = None
        if self._answer_framing is _CHUNKED:
            pieces = chunks(pieces, ended=ended)
        out += pieces
        if out:
            self._client.write(out[0] if len(out) == 1 else b"".join(out))
        if ended:
            self._answered()
        elif self.deadline_s != _NEVER_S:
            self._expect_more()

    def _on_switched(self, head: ResponseHead, rest: bytes) -> None:
        connection, asked = self._connection, self._head.named
        if connection is None:
            return
        if not is_switch(head.headers, head.connection, asked[b"sec-websocket-key"]):
            connection.abort()
            self.on_upstream_lost(Refused(502, "bad_gateway", "the service's handshake is wrong"))
        elif open_tunnel(
            self._plane, self.account, self._client, connection, rest, self._answer_head(head)
        ):
            self._phase, self.deadline_s, self._connection = Phase.DONE, _NEVER_S, None

    def on_upstream_lost(self, refused: Refused) -> None:
        connection, self._connection = self._connection, None
        if self._answer is not None:
            self._sending.report(ok=False)
            self._break_off(refused.code)
        elif connection is None or not self._sending.again(connection):
            self._sending.report(ok=False)
            self._refuse(refused)

    def on_upstream_writable(self, *, writable: bool) -> None:
        self._upstream_full = not writable
        if self._phase is Phase.SENDING:
            self.deadline_s = _NEVER_S if writable else self._soon()
        self._client.mind_body()

    # What `sending` calls.

    def on_connection(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self.account.sent_s = self._plane.clock.monotonic_s()
        self._upstream_full = False
        self._phase = Phase.SENDING
        request = self.request_for(connection.authority)
        switched = self._on_switched if self._head.fields.websocket else None
        to_head = self._head.method == "HEAD"
        connection.ask(self, request, to_head_request=to_head, on_switched=switched)
        if self._client.body_is_read:
            self._expect_answer()
        else:
            self._client.mind_body()

    def on_again(self) -> None:
        self._connection = None
        self._phase, self.deadline_s = Phase.OPENING, _NEVER_S

    def on_copy(self, connection: UpstreamConnection) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._connection = connection
        self._expect_answer()

    def request_for(self, authority: bytes) -> bytes:
        return b"".join((self.account.upstream_head(authority), *self._body))

    def on_unsent(self, refused: Refused) -> None:
        self._refuse(refused)

    # The steps.

    async def _admit(self) -> None:
        try:
            self._proceed(await self.account.admission())
        except Refused as refused:
            self._refuse(refused)

    def _proceed(self, admitted: Admitted) -> None:
        self.account.admitted = admitted
        head, unread = self._head, not self._client.body_is_read
        if self._phase is Phase.DONE:
            self.account.release()  # the client has gone meanwhile
            return
        if unread and head.expects_continue:
            self._client.write(_CONTINUE)
        small = head.framing is Framing.LENGTH and head.length <= self._plane.settings.replay_bytes
        if unread and small:
            self._phase = Phase.BUFFERING
            self._client.mind_body()
        else:
            self._open()

    def _open(self) -> None:
        """Admitted, and as much of the body is here as must be: ask the service, or who knows."""
        self._phase = Phase.OPENING
        websocket, interceptor = self._head.fields.websocket, self._plane.interceptor
        if interceptor is not None and not websocket and not self._intercept(interceptor):
            return
        held = (self._head.framing is _NO_BODY and not websocket) or bool(self._body)
        self._sending.open(self.account.routed, held=held)

    def _intercept(self, interceptor: Interceptor) -> bool:
        """False if the request is answered without the service."""
        try:
            found = interceptor.before_forward(self.account)
        except Refused as refused:
            self._refuse(refused)
            return False
        if isinstance(found, OwnAnswer):
            self._answer_ourselves(found)
        elif isinstance(found, Seat):
            self._connection, self._phase, self.deadline_s = found, Phase.ANSWERING, self._soon()
            found.take(self)
        else:
            self._tap = found
            return True
        return False

    def _answer_head(self, head: ResponseHead) -> bytes:
        self._answer = head
        self.account.first_byte_s = self._plane.clock.monotonic_s()
        self._sending.report(ok=health_of(head))
        extra: tuple[Header, ...] = self.account.admitted.headers
        if self._tap is not None:
            extra = (*extra, *self._tap.on_head(head))
        framing = head.framing_to(http10=self._head.http10)
        self._keep_alive = (
            self._head.keep_alive
            and self._client.body_is_read
            and framing is not _CLOSE
            and not self._plane.draining
        )
        self._answer_framing = framing
        if self.account.routed.streaming:
            self.deadline_s = _NEVER_S
        return self.account.answer_head(head, framing, extra, keep_alive=self._keep_alive)

    def _answered(self) -> None:
        answer, connection = self._answer, self._connection
        self._connection = None
        if connection is not None:
            if self._client.body_is_read:
                connection.free()
            else:
                connection.abort()  # the service answered without reading the whole request
        self._finish(answer.status if answer else 0, "")
        self._client.answered(keep_alive=self._keep_alive)

    def _refuse(self, refused: Refused) -> None:
        """Answer by ourselves. The connection lives on if the request's end is known."""
        if self._phase is not Phase.DONE:
            keep = self._may_keep() and not refused.close
            answer = self.account.refusal(refused, keep_alive=keep)
            self._reply(answer, refused.status, refused.code, keep=keep)

    def _answer_ourselves(self, own: OwnAnswer) -> None:
        """Somebody here knew the answer."""
        keep = self._may_keep()
        extra = self.account.admitted.headers
        answer, body_bytes = self.account.own_answer(own, extra, keep_alive=keep)
        self.account.bytes_out += body_bytes
        self._reply(answer, own.head.status, "", keep=keep)

    def _may_keep(self) -> bool:
        """Whether the connection can go on after an answer of our own."""
        return self._client.skip_body() and self._head.keep_alive and not self._plane.draining

    def _reply(self, answer: bytes, status: int, code: str, *, keep: bool) -> None:
        self._finish(status, code)
        self._client.write(answer)
        self._client.answered(keep_alive=keep)

    def _break_off(self, code: str) -> None:
        """E2: the answer has begun and cannot be completed."""
        if self._phase is not Phase.DONE:
            self._finish(self._answer.status if self._answer else 0, code)
            self._client.abort()

    def _drop_upstream(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._sending.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _expect_answer(self) -> None:
        self._phase = Phase.ANSWERING
        self.deadline_s = self._sending.answer_by_s(self.account.routed.timeout_s)

    def _soon(self) -> float:
        return self._plane.clock.monotonic_s() + self.account.routed.timeout_s

    def _expect_more(self) -> None:
        if self._phase is not Phase.DONE and not (self._answer and self.account.routed.streaming):
            self.deadline_s = self._soon()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        return self._plane.spawn(work, self._fail)

    def _fail(self, error: BaseException) -> None:
        """A bug of ours must not leave the caller waiting for ever."""
        name = self.account.request_id
        self._plane.log.error("request failed", error=repr(error), request_id=name)
        self._drop_upstream()
        self._refuse(Refused(500, "internal", "the gateway failed"))

    def _finish(self, status: int, code: str) -> None:
        self._phase = Phase.DONE
        self._sending.report(ok=None)
        if self._tap is not None:
            self._tap.on_broken()
        self.deadline_s = _NEVER_S
        self.account.close(status, code)
