"""From HTTP to WebSocket: what a request for an upgrade must be, and what it is answered. Pure.

A browser cannot set Authorization on a WebSocket, and a token in the path would stand in every
log on the way. So the token comes either as `Authorization: Bearer` or as a second subprotocol:
`Sec-WebSocket-Protocol: order-status.v1, bearer.<token>`. Only the first is ever echoed.

A browser lets any page open a WebSocket anywhere, and says from which in Origin. A request with
an Origin that was not named is refused; programs send none.
Source: RFC 6455 sections 4.2 and 10.2.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import httptools

from month3_messaging.status.frames import accept_key
from scalelab.errors import Forbidden, InvalidInput, NotFound, ScalelabError, TooLarge
from scalelab.web.problem import MEDIA_TYPE, from_error, instance_of

PATH = "/api/v1/orders/live"
SUBPROTOCOL = "order-status.v1"
HEAD_LIMIT = 16 * 1024
"""Bytes of a request's head."""

_BEARER = "bearer."
_STATUSES = {"malformed_request": 400, "upgrade_required": 426}


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request that may be answered with 101. token: None if it brought none."""

    key: str
    token: str | None
    subprotocol: str | None


class HeadReader:
    """Collects a request's head; holds at most HEAD_LIMIT bytes and one read."""

    __slots__ = ("_complete", "_parser", "_seen", "fields", "method", "path")

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.method = ""
        self.path = ""
        self._seen = 0
        self._complete = False
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> bytes | None:
        """None until the head is whole; then what came behind it.

        Raises InvalidInput for what is no request for an upgrade, TooLarge.
        """
        assert self._parser is not None
        self._seen += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.method = self._parser.get_method().decode()
            self._parser = None
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            raise InvalidInput("This is no HTTP request.", code="malformed_request") from error
        if self._complete:
            raise InvalidInput("Only WebSocket is spoken here.", code="upgrade_required")
        if self._seen > HEAD_LIMIT:
            raise TooLarge("The head is too large.", code="header_too_large")
        return None

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser. A name that comes twice is joined, as lists are."""
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.fields[key] = f"{self.fields[key]}, {text}" if key in self.fields else text

    def on_message_complete(self) -> None:
        """Called by the parser: a whole request, before it says whether it is an upgrade."""
        self._complete = True


def read_upgrade(head: HeadReader, *, origins: Collection[str]) -> Upgrade:
    """Judge a whole head. Raises InvalidInput, NotFound, or Forbidden (code origin_refused)."""
    fields = head.fields
    if head.path.partition("?")[0] != PATH:
        raise NotFound("Nothing is served here.")
    if head.method != "GET" or fields.get("upgrade", "").lower() != "websocket":
        raise InvalidInput("Only WebSocket is spoken here.", code="upgrade_required")
    if fields.get("sec-websocket-version") != "13":
        raise InvalidInput("Version 13 is spoken here.", code="upgrade_required")
    key = fields.get("sec-websocket-key", "")
    if not _is_key(key):
        raise InvalidInput("16 bytes in Base64", field="Sec-WebSocket-Key")
    origin = fields.get("origin")
    if origin is not None and origin not in origins:
        raise Forbidden("This origin may not connect.", code="origin_refused")
    offered = [one.strip() for one in fields.get("sec-websocket-protocol", "").split(",")]
    return Upgrade(key, _token(fields, offered), SUBPROTOCOL if SUBPROTOCOL in offered else None)


def accept(upgrade: Upgrade) -> bytes:
    """The 101 that makes the connection a WebSocket."""
    chosen = f"Sec-WebSocket-Protocol: {upgrade.subprotocol}\r\n" if upgrade.subprotocol else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(upgrade.key)}\r\n{chosen}\r\n"
    ).encode()


def refuse(error: ScalelabError, path: str) -> bytes:
    """A problem document and the end of the connection."""
    problem = from_error(error, _STATUSES)
    body = problem.body(instance=instance_of(path.encode("latin-1", "replace")), request_id=None)
    lines = "".join(f"{name}: {value}\r\n" for name, value in problem.headers.items())
    return (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
        f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\ncache-control: no-store\r\n{lines}\r\n"
    ).encode() + body


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _token(fields: Mapping[str, str], offered: list[str]) -> str | None:
    scheme, _, token = fields.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return next((one.removeprefix(_BEARER) for one in offered if one.startswith(_BEARER)), None)
