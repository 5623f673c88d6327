"""HTTP/1.1 heads: bytes in, a checked value out. No I/O.

Theory of operation
    The caller cuts a head at its first empty line (CRLF CRLF). llhttp (through httptools) reads
    it with all leniencies off; then we demand more. Request smuggling lives where two readers see
    different message ends, so whatever two readers could see differently is refused, and what is
    forwarded is written anew from the values (headers.py), never copied.

Refused on top of llhttp's own rules
    a request line that is not exactly `METHOD SP target SP HTTP/1.x`; Transfer-Encoding with
    Content-Length, twice, other than `chunked`, or on HTTP/1.0; Content-Length twice, signed or
    listed; header names that look like either (`Content_Length`); Host missing, twice or malformed;
    Upgrade, unless it is a whole WebSocket handshake; Authorization, X-API-Key or Idempotency-Key
    twice.

Source: RFC 9112 sections 3, 5, 6; differs in: stricter where that allows a choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

import httptools

from month1_caching_gateway.gateway.problems import Header, Refused
from month1_caching_gateway.gateway.routes import Route, RouteTable
from month1_caching_gateway.gateway.targets import Target
from month1_caching_gateway.gateway.websocket import is_handshake

_HOST = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9\-.]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?\Z"
)
_AT_MOST_ONCE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"idempotency-key",
        b"x-api-key",
        b"upgrade",
        b"sec-websocket-key",
        b"sec-websocket-version",
    )
)
_LISTS = frozenset((b"traceparent", b"tracestate", b"x-forwarded-for", b"x-forwarded-proto"))
_MAX_LENGTH_DIGITS = 15


class Framing(Enum):
    """How the end of a body is told."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


_CHUNKED, _CLOSE = Framing.CHUNKED, Framing.CLOSE  # reading a member off its Enum is a call


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request line leads under one route table. first_line: of the forwarded request, up
    to the endpoint's name in `Host: `."""

    table: RouteTable
    route: Route
    target: Target
    first_line: bytes


@dataclass(slots=True)
class RequestLine:
    """target: as sent. place: a note of account.py's, for the table it was found in."""

    method: str
    target: bytes
    http10: bool
    place: Place | None = None


@dataclass(slots=True)
class Fields:
    """A header block. headers: lower-case names, in order. named: the values the gateway itself
    looks at, by name; several of one name are joined by commas where that is allowed, and refused
    where it is not. length: of the body in bytes, 0 unless framing is LENGTH. keep_alive: the
    client's wish. connection: what Connection says, in lower case; empty without that header.
    websocket: the block is half of a WebSocket handshake, and the line the other half. passed_on: a
    note of headers.py's, the lines that go to a service; None until it was made. by_name: a note of
    `RequestHead.by_name`.
    """

    headers: list[Header]
    named: dict[bytes, bytes]
    framing: Framing
    length: int
    keep_alive: bool
    expects_continue: bool
    connection: bytes
    websocket: bool = False
    passed_on: bytes | None = None
    by_name: dict[bytes, bytes] | None = None


class RequestHead:
    """One request's head. Its two halves may be shared with other requests (known_heads.py)."""

    __slots__ = ("fields", "framing", "keep_alive", "length", "line", "method", "named")

    def __init__(self, line: RequestLine, fields: Fields) -> None:
        self.line = line
        self.fields = fields
        self.method = line.method
        self.named = fields.named
        self.framing = fields.framing
        self.length = fields.length
        self.keep_alive = fields.keep_alive

    @property
    def target(self) -> bytes:
        """As sent."""
        return self.line.target

    @property
    def http10(self) -> bool:
        """HTTP/1.0; anything else is HTTP/1.1."""
        return self.line.http10

    @property
    def headers(self) -> list[Header]:
        """Lower-case names, in order."""
        return self.fields.headers

    @property
    def by_name(self) -> dict[bytes, bytes]:
        """Every header, several of one name joined by commas."""
        found = self.fields.by_name
        if found is None:
            found = self.fields.by_name = joined(self.fields.headers)
        return found

    @property
    def connection(self) -> bytes:
        """What Connection says, in lower case."""
        return self.fields.connection

    @property
    def expects_continue(self) -> bool:
        """The client waits for a 100 before it sends its body."""
        return self.fields.expects_continue

    def value_of(self, name: bytes) -> bytes | None:
        """A header that the gateway itself does not know; name: lower case. O(headers)."""
        return next((value for key, value in self.fields.headers if key == name), None)

    @property
    def host(self) -> str:
        """Host without the port, in lower case; empty for an HTTP/1.0 request without one."""
        value = self.named.get(b"host", b"").decode("ascii").lower()
        name, _, port = value.rpartition(":")
        return name if name and port.isdigit() else value


def joined(headers: list[Header]) -> dict[bytes, bytes]:
    """Headers by name, several of one name joined by commas."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


@dataclass(slots=True)
class ResponseHead:
    """length: of the body, when framing is LENGTH. keep_alive: may the connection be used again.

    connection: what Connection says, in lower case; empty without that header. passed_on: a note of
    headers.py's, what goes to an HTTP/1.1 client up to the request's id; None until it was made.
    """

    status: int
    headers: list[Header]
    framing: Framing
    length: int
    keep_alive: bool
    connection: bytes
    passed_on: bytes | None = None

    def framing_to(self, *, http10: bool) -> Framing:
        """How we tell the body's end to a client: chunks, or the connection's end to an old one."""
        framing = self.framing
        if framing is _CHUNKED or framing is _CLOSE:
            return _CLOSE if http10 else _CHUNKED
        return framing


class _Reader:
    """Collects what the parser finds."""

    __slots__ = ("complete", "headers", "past_the_end", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[Header] = []
        self.complete = False
        self.past_the_end = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_body(self, _body: bytes) -> None:
        self.past_the_end = True


def parse_request_head(raw: bytes, *, max_headers: int = 100) -> RequestHead:
    """Read `raw`, which ends with its first empty line. Raises Refused, always closing."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # CONNECT, or an Upgrade header: judged below
    except httptools.HttpParserError as error:
        raise _refused("the request is not valid HTTP/1.1") from error
    if not reader.complete or reader.past_the_end:
        raise _refused("the request's head has no clear end")
    method = parser.get_method()
    if method == b"CONNECT":
        raise _refused("CONNECT is not taken here", "upgrade_refused")
    http10 = _version_is_1_0(raw, method, reader.url)
    if len(reader.headers) > max_headers:
        raise Refused(431, "too_many_headers", f"more than {max_headers} headers", close=True)
    named, connection, expect = _named(reader.headers)
    framing, length = _request_framing(named, http10=http10)
    websocket = b"upgrade" in named
    if websocket and (http10 or not is_handshake(method.decode("ascii"), named, connection)):
        raise _refused("Upgrade is taken for WebSocket handshakes only", "upgrade_refused")
    if expect not in (b"", b"100-continue"):
        raise Refused(417, "expectation_failed", "only 100-continue can be expected", close=True)
    line = RequestLine(method.decode("ascii"), reader.url, http10)
    fields = Fields(
        headers=reader.headers,
        named=named,
        framing=framing,
        length=length,
        keep_alive=_wants_keep_alive(connection, http10=http10),
        expects_continue=bool(expect) and not http10 and framing is not Framing.NONE,
        connection=connection,
        websocket=websocket,
    )
    return RequestHead(line, fields)


def parse_response_head(raw: bytes, *, to_head_request: bool) -> ResponseHead:
    """Read an upstream's head, 1xx included. Raises Refused (502 `bad_gateway`)."""
    reader = _Reader()
    parser = httptools.HttpResponseParser(reader)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # a 101; who did not ask for one refuses it
    except httptools.HttpParserError as error:
        raise _bad_gateway("the service answered with something that is not HTTP/1.1") from error
    if not reader.complete or reader.past_the_end:
        raise _bad_gateway("the service's answer has no clear head")
    status = parser.get_status_code()
    http10 = parser.get_http_version() == "1.0"
    framing, length, connection = _response_framing(reader.headers)
    if to_head_request or status in (204, 304) or status < 200:
        framing, length = Framing.NONE, 0
    keep_alive = framing is not Framing.CLOSE and _wants_keep_alive(connection, http10=http10)
    return ResponseHead(status, reader.headers, framing, length, keep_alive, connection)


def _response_framing(headers: list[Header]) -> tuple[Framing, int, bytes]:
    """Framing, length, and the joined Connection."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection = b""
    for name, value in headers:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"connection":
            connection += b"," + value.lower()
    if len(lengths) + len(codings) > 1:
        raise _bad_gateway("the service's answer does not say clearly how long it is")
    if codings:
        if codings[0] != b"chunked":
            raise _bad_gateway("the service's answer has an unknown transfer coding")
        return Framing.CHUNKED, 0, connection
    if not lengths:
        return Framing.CLOSE, 0, connection
    length = _length(lengths.pop())
    if length is None:
        raise _bad_gateway("the service's answer has a malformed length")
    return Framing.LENGTH if length else Framing.NONE, length, connection


def _version_is_1_0(raw: bytes, method: bytes, url: bytes) -> bool:
    """The request line, rebuilt, must be what came: no second reading of it exists then."""
    line = raw[: raw.index(b"\r\n")]
    start = method + b" " + url + b" HTTP/"
    if line == start + b"1.1":
        return False
    if line == start + b"1.0":
        return True
    if line.startswith(start):
        raise Refused(505, "version_not_supported", "HTTP/1.1 is spoken here", close=True)
    raise _refused("the request line is not 'METHOD target HTTP/1.1'")


def _named(headers: list[Header]) -> tuple[dict[bytes, bytes], bytes, bytes]:
    """The values we look at, the joined Connection, and Expect."""
    named: dict[bytes, bytes] = {}
    connection = expect = b""
    for name, value in headers:
        if name in _AT_MOST_ONCE:
            if name in named:
                raise _refused(f"the header {name.decode('ascii')} comes twice")
            named[name] = value
        elif name in _LISTS:
            named[name] = named[name] + b"," + value if name in named else value
        elif name == b"connection":
            connection += b"," + value.lower()
        elif name == b"expect":
            expect = value.lower()
        elif b"_" in name and name.replace(b"_", b"-") in _AT_MOST_ONCE:
            raise _refused("a header only looks like the one that it is not")
    return named, connection, expect


def _request_framing(named: dict[bytes, bytes], *, http10: bool) -> tuple[Framing, int]:
    host = named.get(b"host")
    if host is None and not http10:
        raise _refused("the Host header is missing")
    if host is not None and not _HOST.match(host):
        raise _refused("the Host header is malformed")
    coding, raw_length = named.get(b"transfer-encoding"), named.get(b"content-length")
    if coding is not None:
        # llhttp refuses Content-Length beside it first; said again, for parsers change.
        if raw_length is not None or http10 or coding.lower() != b"chunked":
            raise _refused("the body's length is told in two ways, or in an unknown one")
        return Framing.CHUNKED, 0
    if raw_length is None:
        return Framing.NONE, 0
    length = _length(raw_length)
    if length is None:
        raise _refused("Content-Length is not a number")
    return (Framing.LENGTH, length) if length else (Framing.NONE, 0)


def _length(value: bytes) -> int | None:
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        return None
    return int(value)


def _wants_keep_alive(connection: bytes, *, http10: bool) -> bool:
    if not connection:
        return not http10
    tokens = {token.strip() for token in connection.split(b",")}
    if b"close" in tokens:
        return False
    return not http10 or b"keep-alive" in tokens


def _refused(detail: str, code: str = "bad_request") -> Refused:
    return Refused(400, code, detail, close=True)


def _bad_gateway(detail: str) -> Refused:
    return Refused(502, "bad_gateway", detail)
