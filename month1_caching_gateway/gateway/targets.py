"""The request target: one spelling of a path, or a refusal.

Theory of operation
    Gateways are passed by asking for the same thing in another spelling: the gateway reads one
    path, the service another. So a path has exactly one accepted meaning. Escapes of unreserved
    characters are decoded, the others written in capitals, and the result is what is matched AND
    what is forwarded. Spellings on which servers disagree are refused: `//`, dot segments in any
    escape, `%2f`, `%5c`, `%25`, control characters, `;`, a backslash, `#`, and anything but
    origin-form (absolute-form is legal HTTP, but this is no forward proxy).

Source: RFC 3986 section 6.2.2, RFC 9112 section 3.2; differs in: stricter, as said above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from month1_caching_gateway.gateway.problems import Refused

_PLAIN = re.compile(rb"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@][A-Za-z0-9\-._~!$&'()*+,=:@]*)+/?\Z")
_PATH = re.compile(rb"/[A-Za-z0-9\-._~!$&'()*+,=:@/%]*\Z")
_VISIBLE = re.compile(rb"[\x21-\x7e]*\Z")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_FORBIDDEN = frozenset([*range(0x20), 0x7F, *b"/\\%;"])


@dataclass(frozen=True, slots=True)
class Target:
    """path: normalised, ASCII. segments: its parts, a last empty one for a trailing slash.

    query: as sent, without the question mark; None when there was none.
    """

    path: str
    segments: tuple[str, ...]
    query: bytes | None

    def wire(self) -> bytes:
        """The target as it is forwarded."""
        path = self.path.encode("ascii")
        return path if self.query is None else path + b"?" + self.query


def parse_target(raw: bytes) -> Target:
    """Normalise an origin-form target. Raises Refused (400 `invalid_target`)."""
    path, mark, query = raw.partition(b"?")
    if not _PLAIN.match(path):
        path = _normalise(path)
    if mark and (not _VISIBLE.match(query) or b"#" in query):
        raise _refused("the query has characters that do not belong in a URL")
    text = path.decode("ascii")
    return Target(text, tuple(text[1:].split("/")), query if mark else None)


def _normalise(path: bytes) -> bytes:
    if not _PATH.match(path):
        raise _refused("the path must start with '/' and be plain ASCII without ';', '\\' or '#'")
    path = _ESCAPE.sub(_unescape, path)
    if b"//" in path:
        raise _refused("the path has an empty segment")
    if any(segment in (b".", b"..") for segment in path.split(b"/")):
        raise _refused("the path has a dot segment")
    _refuse_bad_text(path)
    return path


def _unescape(found: re.Match[bytes]) -> bytes:
    digits = found.group(1)
    if digits is None:
        raise _refused("the path has a broken percent-escape")
    byte = int(digits, 16)
    if byte in _FORBIDDEN:
        raise _refused("the path has an escape that services read in different ways")
    return bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte


def _refuse_bad_text(path: bytes) -> None:
    """Escapes above ASCII must spell UTF-8: overlong forms of '/' and '.' do not."""
    decoded = _ESCAPE.sub(lambda found: bytes([int(found.group(1), 16)]), path)
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused("the path's escapes are not UTF-8") from error


def _refused(detail: str) -> Refused:
    return Refused(400, "invalid_target", detail)
