"""One fetch for the response cache, and those who wait for it.

Theory of operation
    A fetch is an exchange without a client: it has the connections, retries and deadlines of every
    other, and what it hears goes to the fetch instead of a socket. It carries only what is in the
    key or visible by the route's policy. Its answer is read whole if it may be stored, and then
    given to everybody who waits; if it may not, it streams to the first who came, and the others
    each get a fetch of their own.

        WAITING -> STORING (read whole, bounded) -> DONE
               \\-> PASSING (streams to one)     ->/

    A 304 to our own condition makes the stored answer fresh again. When the service fails, a stored
    answer stands in where its author or the route allows it.

Invariants (tests cite them)
    H1  At most one fetch of a key and its visible headers runs at a time, unless what came last
        could not be stored.
    H2  What could not be stored is given to one caller alone.
    H3  A fetch that nobody waits for any more ends, unless it refreshes a stored answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from month1_caching_gateway.gateway.exchange import Exchange
from month1_caching_gateway.gateway.headers import Caller
from month1_caching_gateway.gateway.heads import (
    Fields,
    Framing,
    RequestHead,
    RequestLine,
    ResponseHead,
    joined,
)
from month1_caching_gateway.gateway.interception import OwnAnswer, Seat
from month1_caching_gateway.gateway.phase import Phase
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Header, Refused
from month1_caching_gateway.gateway.tunnel import Tunnel
from month1_caching_gateway.gateway.upstream_connection import AnswerSink
from month1_caching_gateway.response_cache import Entry, Freshness, selects, validation_headers

if TYPE_CHECKING:
    from month1_caching_gateway.gateway.cached_answers import Ask, ResponseCache

_FAILURES = frozenset((500, 502, 503, 504))
_NAMED = (b"host", b"traceparent", b"tracestate")


class Fetch:
    """stale: the stored answer it would replace. outdated: what it brings is not to be kept.

    freshness: of the answer, once its head has come.
    """

    def __init__(self, cache: ResponseCache, ask: Ask, plane: Plane, stale: Entry | None) -> None:
        self._cache = cache
        self.ask = ask
        self.plane = plane
        self.stale = stale
        self.outdated = False
        self.freshness: Freshness | None = None
        self.asked_at_s = plane.clock.monotonic_s()
        self._seats: list[FetchSeat] = []
        self._leader: FetchSeat | None = None
        self._kept: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._exchange: _Silent | None = None

    def start(self) -> None:
        """Ask the service, once."""
        if self._exchange is None:
            self._exchange = _Silent(self, self.plane)
            self._exchange.begin()

    def join(self, seat: FetchSeat) -> None:
        """One more who waits."""
        self._seats.append(seat)
        self.start()

    def leave(self, seat: FetchSeat) -> None:
        """One less."""
        if seat in self._seats:
            self._seats.remove(seat)
        if seat is self._leader or (not self._seats and self.stale is None):
            self._end()  # H3

    def pause(self, seat: FetchSeat, *, reads: bool) -> None:
        """The one it streams to reads slower than it comes, or again fast enough."""
        if seat is self._leader and self._exchange is not None:
            self._exchange.on_client_writable(writable=reads)

    def sweep(self, now_s: float) -> None:
        """Act on the deadline, if it has passed."""
        if self._exchange is not None and now_s > self._exchange.deadline_s:
            self._exchange.on_deadline()

    # What the exchange says, as to a tap.

    def on_head(self, head: ResponseHead) -> Iterable[Header]:
        stale = self.stale
        if head.status == 304 and stale is not None and selects(joined(head.headers), stale.named):
            entry = self._cache.refreshed(self, stale, head)
            self._give(entry, "fwd=stale; fwd-status=304; stored")
        elif head.status in _FAILURES and self._stands_in():
            self._give(stale, f"fwd=stale; fwd-status={head.status}")
        elif head.status == 304 or not self._cache.may_store(self, head):
            self._pass_on(head)
        else:
            self._kept = head
        return ()

    def on_body(self, pieces: list[bytes], *, ended: bool) -> None:
        if self._leader is not None:
            if pieces or ended:
                self._leader.hear(None, pieces, ended=ended)
        elif self._kept is not None:
            self._keep(self._kept, pieces, ended=ended)
        if ended:
            self._cache.ended(self)

    def on_broken(self) -> None:
        self._cache.ended(self)

    def failed(self, refused: Refused) -> None:
        """There is no answer, or it broke off."""
        self._cache.ended(self)
        leader, self._leader = self._leader, None
        if leader is not None:
            leader.lose(refused)
        elif self._stands_in():
            self._give(self.stale, "fwd=stale")
        else:
            for seat in self._emptied():
                seat.lose(refused)

    # Inside.

    def _keep(self, head: ResponseHead, pieces: list[bytes], *, ended: bool) -> None:
        self._pieces += pieces
        self._size += sum(map(len, pieces))
        if self._size > self.ask.policy.max_entry_bytes:
            kept, self._pieces, self._kept = self._pieces, [], None
            self._pass_on(head)
            if self._leader is not None:
                self._leader.hear(None, kept, ended=ended)
        elif ended:
            entry = self._cache.stored(self, head, b"".join(self._pieces))
            self._give(entry, f"fwd={'stale' if self.stale else 'uri-miss'}; stored")

    def _stands_in(self) -> bool:
        """Whether the stored answer may be given in place of a failure."""
        now_s = self.plane.clock.monotonic_s()
        return self.stale is not None and self.stale.freshness.may_stand_in(now_s)

    def _give(self, entry: Entry | None, said: str) -> None:
        self._cache.ended(self)
        if entry is None:
            return
        now_s = self.plane.clock.monotonic_s()
        for number, seat in enumerate(self._emptied()):
            how = said + "; collapsed" if number else said
            seat.answer(self._cache.answer(entry, seat.wanted, now_s, how))

    def _pass_on(self, head: ResponseHead) -> None:
        """H2: to the first who waits; the others ask by themselves."""
        self._cache.unstorable(self)
        self._cache.ended(self)
        seats = self._emptied()
        if not seats:
            self._end()
            return
        leader = self._leader = seats[0]
        leader.hear(self._cache.marked(head, "fwd=uri-miss"), [], ended=False)
        for seat in seats[1:]:
            self._cache.again_alone(seat)

    def _emptied(self) -> list[FetchSeat]:
        seats, self._seats = self._seats, []
        return seats

    def _end(self) -> None:
        self._cache.ended(self)
        if self._exchange is not None:
            self._exchange.on_client_lost()


class FetchSeat(Seat):
    """One exchange that waits. It may be moved to another fetch while it does."""

    def __init__(self, fetch: Fetch, ask: Ask) -> None:
        self.origin = _NOWHERE
        self.fresh = True
        self.answered_any_byte = False
        self.fetch = fetch
        self.wanted = ask
        self._head_only = ask.account.head.method == "HEAD"
        self._waiting: AnswerSink | None = None

    def take(self, sink: AnswerSink) -> None:
        self._waiting = sink
        self.fetch.join(self)

    def move(self, fetch: Fetch) -> None:
        """Wait for another fetch."""
        self.fetch = fetch
        fetch.join(self)

    def hear(self, head: ResponseHead | None, pieces: list[bytes], *, ended: bool) -> None:
        """A part of the answer."""
        sink = self._waiting
        if sink is None:
            return
        if ended:
            self._waiting = None
        if self._head_only:
            pieces = []
            head = None if head is None else replace(head, framing=Framing.NONE, passed_on=None)
        sink.on_answer(head, pieces, ended=ended)

    def answer(self, own: OwnAnswer) -> None:
        """The whole answer."""
        head = replace(own.head, headers=[*own.head.headers, *own.extra], passed_on=None)
        body = [own.body] if own.body and head.status not in (204, 304) else []
        self.hear(head, body, ended=True)

    def lose(self, refused: Refused) -> None:
        """There will be no answer."""
        sink, self._waiting = self._waiting, None
        if sink is not None:
            sink.on_upstream_lost(refused)

    # As a connection.

    @property
    def alive(self) -> bool:
        return self._waiting is not None

    def write(self, data: bytes) -> None:
        return

    def pause(self) -> None:
        self.fetch.pause(self, reads=False)

    def resume(self) -> None:
        self.fetch.pause(self, reads=True)

    def free(self) -> None:
        return

    def abort(self) -> None:
        self._waiting = None
        self.fetch.leave(self)


class _Nowhere:
    """The endpoint of a seat: the fetch reports on the real one."""

    authority = b""

    def report(self, *, ok: bool | None) -> None:
        return


_NOWHERE = _Nowhere()


class _Nobody:
    """The client of a fetch."""

    peer = ""

    def __init__(self, caller: Caller) -> None:
        self.caller: Caller | None = caller

    @property
    def body_is_read(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        return

    def mind_body(self) -> None:
        return

    def skip_body(self) -> bool:
        return True

    def answered(self, *, keep_alive: bool) -> None:
        return

    def become(self, tunnel: Tunnel) -> None:
        """A fetch is no handshake."""

    def connection_lost(self, exc: Exception | None) -> None:
        return

    def abort(self) -> None:
        return


class _Silent(Exchange):
    """The exchange of a fetch: not admitted, not intercepted, not counted as a request."""

    __slots__ = ("_fetch",)

    def __init__(self, fetch: Fetch, plane: Plane) -> None:
        super().__init__(plane, _Nobody(fetch.ask.account.caller), _fetch_head(fetch))
        self._fetch = fetch
        self.account.silent = True

    def begin(self) -> None:
        try:
            route = self.account.resolve()
        except Refused as refused:
            self._refuse(refused)
            return
        self._tap = self._fetch
        self._phase = Phase.OPENING
        self._sending.open(route, held=True)

    def _refuse(self, refused: Refused) -> None:
        if self._phase is not Phase.DONE:
            self._tap = None
            super()._refuse(refused)
            self._fetch.failed(refused)

    def _break_off(self, code: str) -> None:
        if self._phase is not Phase.DONE:
            self._tap = None
            super()._break_off(code)
            self._fetch.failed(Refused(502, code, "the service's answer broke off"))


def _fetch_head(fetch: Fetch) -> RequestHead:
    """A GET for everybody: what is in the key, what the policy shows, our own conditions."""
    ask, stale = fetch.ask, fetch.stale
    asked = ask.account.head
    headers = [pair for pair in asked.headers if pair[0] in ask.policy.visible]
    if stale is not None:
        headers += validation_headers(stale.named)
    named = {name: asked.named[name] for name in _NAMED if name in asked.named}
    fields = Fields(headers, named, Framing.NONE, 0, True, False, b"")
    return RequestHead(RequestLine("GET", ask.target, False), fields)
