"""The WebSocket handshake, as far as a gateway must understand it. No I/O.

A request is a handshake or it is refused: half of one is how two servers are brought to disagree
about where HTTP ends. After the service's 101 the gateway reads no frames; it moves bytes.

Source: RFC 6455 sections 4.1 and 4.2; differs in: HTTP/1.1 and version 13 only, no request body.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from month1_caching_gateway.gateway.problems import Header, Refused

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==\Z")
"""16 bytes in base64: the last digit before the padding holds two of its six bits."""


def is_handshake(method: str, named: Mapping[bytes, bytes], connection: bytes) -> bool:
    """Whether a request's head asks for a WebSocket as the standard says, and for nothing else."""
    tokens = {token.strip() for token in connection.split(b",")}
    return (
        method == "GET"
        and named.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in tokens
        and b"close" not in tokens
        and named.get(b"sec-websocket-version") == b"13"
        and _KEY.match(named.get(b"sec-websocket-key", b"")) is not None
        and b"content-length" not in named
        and b"transfer-encoding" not in named
    )


def check_origin(origins: list[bytes], host: bytes, allowed: frozenset[str]) -> None:
    """Raise Refused (403) for a page of another site: browsers send cookies along, and no CORS.

    origins: every Origin header. A client without one is no browser. Allowed are pages of the host
    itself and what the route names.
    """
    own = (b"http://" + host.lower(), b"https://" + host.lower())
    for origin in origins:
        if len(origins) > 1 or not (origin.decode("latin-1") in allowed or origin.lower() in own):
            raise Refused(403, "origin_refused", "pages of this origin may not connect here")


def accept_of(key: bytes) -> bytes:
    """What a service that understood the handshake answers to `key`."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def is_switch(headers: list[Header], connection: bytes, key: bytes) -> bool:
    """Whether a 101 with these headers (lower-case names) accepts the handshake of `key`."""
    upgrades = [value.lower() for name, value in headers if name == b"upgrade"]
    accepts = [value for name, value in headers if name == b"sec-websocket-accept"]
    tokens = {token.strip() for token in connection.split(b",")}
    return upgrades == [b"websocket"] and b"upgrade" in tokens and accepts == [accept_of(key)]
