"""What is known of one request, and what remains of it: a log line, counts, the end of a span."""

from __future__ import annotations

from month1_caching_gateway.gateway.admission import client_ip
from month1_caching_gateway.gateway.headers import (
    Forwarding,
    client_response_head,
    own_response,
)
from month1_caching_gateway.gateway.heads import Framing, RequestHead, ResponseHead
from month1_caching_gateway.gateway.interception import OwnAnswer
from month1_caching_gateway.gateway.plane import Plane
from month1_caching_gateway.gateway.problems import Header, Refused, problem_body
from month1_caching_gateway.gateway.request_log import Record
from month1_caching_gateway.gateway.routes import Route
from month1_caching_gateway.gateway.targets import Target, parse_target


class Account:
    """Opened when a head was read, closed once when the request has ended in any way.

    in_force: the snapshot this request began under (S1). subject: of the verified caller.
    sent_s, first_byte_s: instants of the monotonic clock, None while it has not happened.
    attempts: how often the request was sent to a service.
    """

    __slots__ = (
        "_at",
        "_began_s",
        "_peer",
        "_plane",
        "_trace",
        "attempts",
        "bytes_in",
        "bytes_out",
        "client_ip",
        "first_byte_s",
        "head",
        "in_force",
        "request_id",
        "route",
        "sent_s",
        "subject",
        "target",
    )

    def __init__(self, plane: Plane, peer: str, head: RequestHead) -> None:
        self._plane = plane
        self._peer = peer
        self.in_force = plane.in_force
        self.head = head
        self._began_s = plane.clock.monotonic_s()
        self._at = plane.clock.now()
        self.request_id = plane.new_request_id(self._at)
        self._trace = plane.tracing.begin(head.named)
        forwarded_for = head.named.get(b"x-forwarded-for", b"")
        self.client_ip = client_ip(peer, forwarded_for, plane.settings.trusted_proxies)
        self.route: Route | None = None
        self.target: Target | None = None
        self.subject = ""
        self.attempts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.sent_s: float | None = None
        self.first_byte_s: float | None = None

    @property
    def max_body_bytes(self) -> int:
        """On the wire, framing included: the route's limit, or the gateway's."""
        if self.route is not None and self.route.max_body_bytes is not None:
            return self.route.max_body_bytes
        return self._plane.settings.max_body_bytes

    def resolve(self) -> Route:
        """Find target and route. Raises Refused: 421, 400, 404, 405 or 413."""
        plane, head = self._plane, self.head
        if not plane.serves_host(head):
            raise Refused(421, "misdirected_request", "this host is not served here")
        self.target = parse_target(head.target)
        route = self.route = self.in_force.table.resolve(head.method, self.target.segments)
        if head.length > self.max_body_bytes:
            limit = self.max_body_bytes
            raise Refused(413, "body_too_large", f"the body is larger than {limit} bytes")
        return route

    def forwarding(self) -> Forwarding:
        """What the service is told of this request."""
        settings = self._plane.settings
        proto = settings.forwarded_proto.encode()
        if self._peer in settings.trusted_proxies:
            told = self.head.named.get(b"x-forwarded-proto", b"")
            proto = told if told in (b"http", b"https") else proto
        return Forwarding(
            client_ip=self.client_ip.encode(),
            proto=proto,
            request_id=self.request_id.encode(),
            traceparent=self._trace.traceparent,
            tracestate=self._trace.tracestate,
        )

    def refusal(self, refused: Refused, *, keep_alive: bool) -> bytes:
        """The gateway's own answer to this request."""
        path = self.head.target.partition(b"?")[0].decode("latin-1")
        return own_response(
            refused.status,
            problem_body(refused, instance=path, request_id=self.request_id),
            refused.headers,
            keep_alive=keep_alive,
            http10=self.head.http10,
            request_id=self.request_id.encode(),
            with_body=self.head.method != "HEAD",
        )

    def own_answer(
        self, own: OwnAnswer, extra: tuple[Header, ...], *, keep_alive: bool
    ) -> tuple[bytes, int]:
        """An answer that no service gave, framed as a service's would be, and its body's size."""
        body = b"" if self.head.method == "HEAD" or own.status in (204, 304) else own.body
        length = (b"content-length", b"%d" % len(own.body))
        headers = [*own.headers, length]
        head = ResponseHead(own.status, headers, Framing.LENGTH, len(own.body), keep_alive, b"")
        wire = client_response_head(
            head,
            framing=Framing.LENGTH,
            keep_alive=keep_alive,
            http10=self.head.http10,
            request_id=self.request_id.encode(),
            extra=extra,
        )
        return wire + body, len(body)

    def close(self, status: int, code: str) -> None:
        """Count it, log it, end its span. code: of the problem, "" for a service's own answer."""
        plane, route = self._plane, self.route
        total_s = plane.clock.monotonic_s() - self._began_s
        name = route.name if route else "-"
        method = self.head.method if route else "-"
        plane.metrics.request(name, method, status, total_s)
        upstream_s = wait_s = None
        if self.sent_s is not None and route is not None:
            wait_s = self.sent_s - self._began_s
            if self.first_byte_s is not None:
                upstream_s = self.first_byte_s - self.sent_s
                plane.metrics.upstream(route.upstream, upstream_s)
        self._trace.end(name, method, status)
        plane.request_log.add(
            Record(
                at=self._at,
                request_id=self.request_id,
                trace_id=self._trace.trace_id,
                method=self.head.method,
                path=self.target.path if self.target else "",
                route=name,
                status=status,
                code=code,
                upstream=route.upstream if route and self.attempts else "",
                subject=self.subject,
                client=self.client_ip,
                bytes_in=self.bytes_in,
                bytes_out=self.bytes_out,
                attempts=self.attempts,
                total_s=total_s,
                upstream_s=upstream_s,
                wait_s=wait_s,
            )
        )


def refusal_of_nothing(plane: Plane, peer: str, refused: Refused) -> bytes:
    """The answer to bytes that could not be read as a request; they are logged and counted too."""
    now = plane.clock.now()
    request_id = plane.new_request_id(now)
    plane.metrics.request("-", "-", refused.status, 0.0)
    plane.request_log.add(
        Record(
            at=now,
            request_id=request_id,
            trace_id="",
            method="-",
            path="",
            route="-",
            status=refused.status,
            code=refused.code,
            upstream="",
            subject="",
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
