"""What crosses the gateway: heads written anew, with nothing in them a caller may not say.

Removed from requests: hop-by-hop headers and those named in Connection; identity and routing
claims (`X-User*`, `X-Internal-*`, `X-Forwarded-*`, `Forwarded`, method and URL overrides); names
with an underscore, which some services read as a dash. Set by us: `X-Forwarded-For`, `-Proto`,
`-Host`, `X-Request-ID`, `traceparent`. Authorization travels on: each service verifies by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from month1_caching_gateway.gateway.heads import Fields, Framing, ResponseHead
from month1_caching_gateway.gateway.problems import Header, reason

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
_FROM_REQUEST = _HOP_BY_HOP | frozenset(
    (
        b"host",
        b"content-length",
        b"expect",
        b"forwarded",
        b"via",
        b"client-ip",
        b"true-client-ip",
        b"x-real-ip",
        b"x-client-ip",
        b"x-request-id",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-url",
        b"x-original-uri",
        b"x-rewrite-url",
        b"traceparent",
        b"tracestate",
        b"x-api-key",  # between the caller and us; services are told who it is, not how we know
    )
)
_CLAIMS = (b"x-user", b"x-internal-", b"x-forwarded-")
_FROM_RESPONSE = _HOP_BY_HOP | frozenset((b"content-length", b"server", b"x-request-id"))
_SWITCH = b"connection: Upgrade\r\nupgrade: websocket\r\n"
_STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, reason(status).encode())
    for status in (101, *range(200, 600))
}


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a connection, or of a request that a trusted hop passed on.

    told: the lines a service reads of it, and then the name of the request id's line.
    """

    ip: str
    told: bytes


def caller(ip: str, proto: bytes) -> Caller:
    """What services are told of a caller: all of it computed, none of it copied from it."""
    told = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-request-id: " % (ip.encode(), proto)
    return Caller(ip, told)


def _with_named(removed: frozenset[bytes], connection: bytes) -> frozenset[bytes]:
    """`removed`, and the names that a Connection header lists."""
    if not connection:
        return removed
    return removed.union(token.strip() for token in connection.split(b","))


def first_line(method: str, target: bytes) -> bytes:
    """The beginning of a forwarded request, up to the endpoint's name."""
    return b"%b %b HTTP/1.1\r\nHost: " % (method.encode("ascii"), target)


def upstream_request_head(
    first: bytes,
    authority: bytes,
    fields: Fields,
    who: Caller,
    request_id: bytes,
    traceparent: bytes,
    tracestate: bytes = b"",
) -> bytes:
    """The head that goes to a service, ending in the empty line. first: see `first_line`."""
    passed_on = fields.passed_on
    if passed_on is None:
        passed_on = fields.passed_on = _passed_on(fields)
    if tracestate:
        traceparent += b"\r\ntracestate: " + tracestate
    return b"".join(
        (
            first,
            authority,
            passed_on,
            who.told,
            request_id,
            b"\r\ntraceparent: ",
            traceparent,
            b"\r\n\r\n",
        )
    )


def _passed_on(fields: Fields) -> bytes:
    """The lines of a request that a service gets to see, after the CRLF of the line before."""
    removed = _with_named(_FROM_REQUEST, fields.connection)
    parts = [b"\r\n"]
    for name, value in fields.headers:
        if name in removed or name.startswith(_CLAIMS) or b"_" in name:
            continue
        parts.append(b"%b: %b\r\n" % (name, value))
    if fields.framing is Framing.CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif fields.framing is Framing.LENGTH or b"content-length" in fields.named:
        parts.append(b"content-length: %d\r\n" % fields.length)
    if fields.websocket:
        parts.append(_SWITCH)
    if b"host" in fields.named:
        parts.append(b"x-forwarded-host: %b\r\n" % fields.named[b"host"])
    return b"".join(parts)


def client_response_head(
    head: ResponseHead,
    *,
    framing: Framing,
    keep_alive: bool,
    http10: bool,
    request_id: bytes,
    extra: Iterable[Header] = (),
) -> bytes:
    """The head that goes to the client. framing: how we tell the body's end to this client."""
    if http10:
        parts = [_answer_lines(head, framing)]
    else:
        passed_on = head.passed_on
        if passed_on is None:
            passed_on = head.passed_on = _answer_lines(head, framing)
        parts = [passed_on]
    parts.append(request_id)
    parts.extend(b"\r\n%b: %b" % pair for pair in extra)
    if not keep_alive:
        parts.append(b"\r\nConnection: close")
    elif http10:
        parts.append(b"\r\nConnection: keep-alive")
    parts.append(b"\r\n\r\n")
    return b"".join(parts)


def without(head: ResponseHead, names: frozenset[bytes]) -> ResponseHead:
    """The head as if the service had not said these; the same one if it did not."""
    kept = [(name, value) for name, value in head.headers if name not in names]
    if len(kept) == len(head.headers):
        return head
    return replace(head, headers=kept, passed_on=None)


def _answer_lines(head: ResponseHead, framing: Framing) -> bytes:
    """An answer's first line, the lines that pass, and the name of the request id's line."""
    removed = _with_named(_FROM_RESPONSE, head.connection)
    parts = [_status_line(head.status)]
    length: bytes | None = None
    for name, value in head.headers:
        if name == b"content-length":
            length = value
        elif name not in removed and not name.startswith(b"x-internal-"):
            parts.append(b"%b: %b\r\n" % (name, value))
    if framing is Framing.CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif framing is not Framing.CLOSE and length is not None and head.status != 204:
        parts.append(b"content-length: %b\r\n" % length)
    if head.status == 101:
        parts.append(_SWITCH)
    parts.append(b"x-request-id: ")
    return b"".join(parts)


def own_response(
    status: int,
    body: bytes,
    headers: Iterable[Header],
    *,
    keep_alive: bool,
    http10: bool,
    request_id: bytes,
    with_body: bool = True,
) -> bytes:
    """A whole answer of the gateway's own: a problem document. with_body: False for HEAD."""
    parts = [_status_line(status)]
    parts.extend(b"%b: %b\r\n" % pair for pair in headers)
    parts.append(
        b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\nContent-Length: %d\r\nX-Request-ID: %b\r\n"
        % (len(body), request_id)
    )
    parts.append(_connection_line(keep_alive=keep_alive, http10=http10))
    parts.append(b"\r\n")
    if with_body:
        parts.append(body)
    return b"".join(parts)


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def _connection_line(*, keep_alive: bool, http10: bool) -> bytes:
    if not keep_alive:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if http10 else b""
