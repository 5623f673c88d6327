"""What is known of one request, and what remains of it: a log line, counts, the end of a span."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from month1_caching_gateway.gateway.admission import ANONYMOUS, Admitted, client_ip
from month1_caching_gateway.gateway.canary import choose
from month1_caching_gateway.gateway.cors import (
    OWNED,
    answer_headers,
    preflight_answer,
    preflight_method,
)
from month1_caching_gateway.gateway.gate import Seat
from month1_caching_gateway.gateway.headers import (
    Caller,
    caller,
    client_response_head,
    first_line,
    own_response,
    upstream_request_head,
    without,
)
from month1_caching_gateway.gateway.heads import Framing, Place, RequestHead, ResponseHead
from month1_caching_gateway.gateway.interception import OwnAnswer, own_answer
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Header, Refused, problem_body
from month1_caching_gateway.gateway.request_log import Record
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.gateway.targets import Target, parse_target
from month1_caching_gateway.gateway.tracing import unkept
from month1_caching_gateway.gateway.websocket import check_origin
from scalelab.errors import InvariantBroken

_IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
_RETRY = ((b"Retry-After", b"1"),)


class Account:
    """Opened when a head was read, closed once when the request has ended in any way.

    in_force: the snapshot this request began under (S1). admitted: who the caller is, and the slot
    it holds until the end. began_s, sent_s, first_byte_s: instants of the monotonic clock, None
    while it has not happened. attempts: how often the request was sent to a service. upstream:
    the service's name, known when the request is sent there. seat: what its load shedding gave.
    own: what the gateway answers by itself, if the request is admitted. cors_headers: of every
    answer, None on a route without a CORS policy. silent: no request of a client's, so neither
    logged nor counted.
    """

    __slots__ = (
        "_digits",
        "_place",
        "_plane",
        "_trace",
        "_wire_id",
        "admitted",
        "attempts",
        "began_s",
        "bytes_in",
        "bytes_out",
        "caller",
        "cors_headers",
        "first_byte_s",
        "head",
        "in_force",
        "own",
        "request_id",
        "route",
        "seat",
        "sent_s",
        "silent",
        "target",
        "upstream",
    )

    def __init__(self, plane: Plane, who: Caller | None, peer: str, head: RequestHead) -> None:
        self._plane = plane
        self.in_force = plane.in_force
        self.head = head
        began_s = self.began_s = plane.clock.monotonic_s()
        self.request_id, digits = plane.stamps.new_id(began_s)
        self._digits = digits
        self._wire_id = self.request_id.encode("ascii")
        self._trace = plane.tracing.begin(head.named, digits)
        self.caller = who or caller_behind(plane, peer, head)
        self._place: Place | None = None
        self.route: Route | None = None
        self.target: Target | None = None
        self.upstream = ""
        self.seat: Seat | None = None
        self.admitted: Admitted = ANONYMOUS
        self.own: OwnAnswer | None = None
        self.silent = False
        self.cors_headers: tuple[Header, ...] | None = None
        self.attempts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.sent_s: float | None = None
        self.first_byte_s: float | None = None

    @property
    def client_ip(self) -> str:
        """Of the caller, not of a trusted hop before it."""
        return self.caller.ip

    @property
    def max_body_bytes(self) -> int:
        """On the wire, framing included: the route's limit, or the gateway's."""
        if self.route is not None and self.route.max_body_bytes is not None:
            return self.route.max_body_bytes
        return self._plane.settings.max_body_bytes

    @property
    def routed(self) -> Route:
        """The route, once there is one."""
        if self.route is None:
            raise InvariantBroken("a request is routed before it is forwarded")
        return self.route

    def resolve(self) -> Route:
        """Find target and route. Raises Refused: 421, 400, 404, 405 or 413."""
        head, line = self.head, self.head.line
        if not self._plane.serves_host(head):
            raise Refused(421, "misdirected_request", "this host is not served here")
        if head.method == "OPTIONS" and (route := self._preflight()) is not None:
            return route
        place = line.place
        table = self.in_force.table
        if place is None or place.table is not table or table.hosts:
            target = self.target = parse_target(line.target)
            route = table.resolve(head.method, target.segments, head.host if table.hosts else "")
            first = first_line(head.method, target.wire())
            place = line.place = Place(table, route, target, first)
        self._place = place
        self.target = place.target
        route = self.route = place.route
        if route.cors is not None:
            self.cors_headers = answer_headers(route.cors, head.headers)
        if head.length > self.max_body_bytes:
            limit = self.max_body_bytes
            raise Refused(413, "body_too_large", f"the body is larger than {limit} bytes")
        if head.fields.websocket:
            self._check_websocket(route)
        return route

    def _check_websocket(self, route: Route) -> None:
        head = self.head
        if not route.websocket:
            detail = "no WebSocket is served here"
            raise Refused(400, "upgrade_refused", detail, close=True)
        origins = [value for name, value in head.headers if name == b"origin"]
        check_origin(origins, head.named[b"host"], route.websocket_origins)

    async def admission(self) -> Admitted:
        """What the checks say that have to wait. Raises Refused, 503 if they take too long."""
        door = self.in_force.admission
        try:
            async with asyncio.timeout(self._plane.settings.admission_timeout_s):
                return await door.check(self.routed, self.head, self.client_ip)
        except TimeoutError as error:
            late = "whether this request may pass could not be found out in time"
            raise Refused(503, "admission_timeout", late, retry_after_s=1.0) from error

    def choose_upstream(self, route: Route) -> str:
        """The service that answers: the route's own, or its canary."""
        canary = route.canary
        if canary is None:
            self.upstream = route.upstream
            return route.upstream
        forced = self.head.value_of(canary.header.encode()) if canary.header else None
        chance = self._plane.random.random()
        chosen = choose(canary, forced=forced, user=self.admitted.subject, chance=chance)
        self.upstream = canary.upstream if chosen.canary else route.upstream
        self._plane.metrics.choice(route.name, self.upstream, chosen.why.value)
        return self.upstream

    def _preflight(self) -> Route | None:
        """The route of a preflight, which needs no credential and is answered here (`own`).

        None if the request is none, or its route has no CORS policy. Raises Refused.
        """
        asked = preflight_method(self.head.headers)
        if asked is None:
            return None
        target = self.target = parse_target(self.head.target)
        route = self.in_force.table.resolve(asked, target.segments, self.head.host)
        if route.cors is None:
            return None
        self.own = own_answer(
            204, preflight_answer(route.cors, self.head.headers, route.methods), b""
        )
        self.route = replace(
            route, auth="none", scope=None, idempotency_key_required=False, cache=None
        )
        return self.route

    def upstream_head(self, authority: bytes) -> bytes:
        """The head that goes to the endpoint of that name."""
        place, trace = self._place, self._trace
        if place is None:
            raise InvariantBroken("a request has a target before it is forwarded")
        return upstream_request_head(
            place.first_line,
            authority,
            self.head.fields,
            self.caller,
            self._wire_id,
            trace.traceparent if trace else unkept(self._digits),
            trace.tracestate if trace else b"",
        )

    def answer_head(
        self, head: ResponseHead, framing: Framing, extra: tuple[Header, ...], *, keep_alive: bool
    ) -> bytes:
        """The service's head as the client gets it. framing: how we tell the body's end."""
        if self.cors_headers is not None:
            head = without(head, OWNED)
            extra = (*extra, *self.cors_headers)
        return client_response_head(
            head,
            framing=framing,
            keep_alive=keep_alive,
            http10=self.head.http10,
            request_id=self._wire_id,
            extra=extra,
        )

    def refusal(self, refused: Refused, *, keep_alive: bool) -> bytes:
        """The gateway's own answer to this request."""
        path = self.head.target.partition(b"?")[0].decode("latin-1")
        return own_response(
            refused.status,
            problem_body(refused, instance=path, request_id=self.request_id),
            (*refused.headers, *_retry(refused, self.head.method), *(self.cors_headers or ())),
            keep_alive=keep_alive,
            http10=self.head.http10,
            request_id=self._wire_id,
            with_body=self.head.method != "HEAD",
        )

    def own_answer(
        self, own: OwnAnswer, extra: tuple[Header, ...], *, keep_alive: bool
    ) -> tuple[bytes, int]:
        """An answer that no service gave, framed as a service's would be, and its body's size."""
        body = b"" if self.head.method == "HEAD" or own.head.status in (204, 304) else own.body
        extra = (*extra, *own.extra)
        head = self.answer_head(own.head, Framing.LENGTH, extra, keep_alive=keep_alive)
        return head + body, len(body)

    def release(self) -> None:
        """Give back the slot the request holds, if it holds one. May be repeated."""
        if self.admitted.held is not None:
            self.admitted.held.release()

    def close(self, status: int, code: str) -> None:
        """Count it, log it, end its span. code: of the problem, "" for a service's own answer."""
        plane, route, sent_s, first_byte_s = (
            self._plane,
            self.route,
            self.sent_s,
            self.first_byte_s,
        )
        if self.admitted.held is not None:
            self.admitted.held.release()
        now_s = plane.clock.monotonic_s()
        total_s = now_s - self.began_s
        if self.seat is not None:
            # Without an answer the time until now is the least that it would have taken.
            latency_s = None if sent_s is None else (first_byte_s or now_s) - sent_s
            self.seat.leave(latency_s, dropped=sent_s is not None and status in (503, 504))
        if self.silent:
            return
        name, method = (route.name, self.head.method) if route else ("-", "-")
        plane.metrics.request(name, method, status, total_s)
        upstream_s = wait_s = None
        if sent_s is not None and route is not None:
            wait_s = sent_s - self.began_s
            if first_byte_s is not None:
                upstream_s = first_byte_s - sent_s
                plane.metrics.upstream(self.upstream, upstream_s)
        trace = self._trace
        if trace is not None and trace.span is not None:
            trace.end(name, method, status)
        plane.request_log.add(
            Record(
                plane.stamps.at_s(self.began_s),
                self.request_id,
                trace.trace_id if trace else self._digits,
                self.head.method,
                self.target.path if self.target else "",
                name,
                status,
                code,
                self.upstream if self.attempts else "",
                self.admitted.subject,
                self.admitted.key_id,
                self.caller.ip,
                self.bytes_in,
                self.bytes_out,
                self.attempts,
                total_s,
                upstream_s,
                wait_s,
            )
        )


def _retry(refused: Refused, method: str) -> tuple[Header, ...]:
    """Retry-After for a failed service, if doing it again is doing it once. A 503 has its own."""
    return _RETRY if refused.status in (502, 504) and method in _IDEMPOTENT else ()


def caller_behind(plane: Plane, peer: str, head: RequestHead) -> Caller:
    """The caller of a request that came through a trusted hop."""
    settings = plane.settings
    forwarded_for = head.named.get(b"x-forwarded-for", b"")
    proto = head.named.get(b"x-forwarded-proto", b"")
    known = plane.callers.get((peer, forwarded_for, proto))
    if known is None:
        told = proto if proto in (b"http", b"https") else settings.forwarded_proto.encode()
        known = caller(client_ip(peer, forwarded_for, settings.trusted_proxies), told)
        plane.callers.put((peer, forwarded_for, proto), known)
    return known


def refusal_of_nothing(plane: Plane, peer: str, refused: Refused) -> bytes:
    """The answer to bytes that could not be read as a request; they are logged and counted too."""
    now_s = plane.clock.monotonic_s()
    request_id, _ = plane.stamps.new_id(now_s)
    plane.metrics.request("-", "-", refused.status, 0.0)
    plane.request_log.add(
        Record(
            at_s=plane.stamps.at_s(now_s),
            request_id=request_id,
            trace_id="",
            method="-",
            path="",
            route="-",
            status=refused.status,
            code=refused.code,
            upstream="",
            subject="",
            key_id="",
            client=peer,
            bytes_in=0,
            bytes_out=0,
            attempts=0,
            total_s=0.0,
            upstream_s=None,
            wait_s=None,
        )
    )
    return own_response(
        refused.status,
        problem_body(refused, instance="/", request_id=request_id),
        refused.headers,
        keep_alive=False,
        http10=False,
        request_id=request_id.encode(),
    )
