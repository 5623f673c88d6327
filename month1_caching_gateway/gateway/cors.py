"""CORS: which pages of other origins a browser may let read our answers.

Theory of operation
    CORS protects users, not services: a browser asks, and obeys the answer. So the answer is an
    exact allow-list. A preflight is answered here, without the service and without a credential,
    for browsers send none with it. Actual answers get the headers of our policy; those of the
    service are taken out, so that one place decides.

Invariants (tests cite them)
    C1  An origin is named in an answer only if it is on the list, byte for byte. `null` never is.
    C2  A request with credentials is never answered by a wildcard.
    C3  An answer that depends on the origin says `Vary: Origin`, whatever the origin was.

Absent on purpose: patterns and suffixes of origins: each was the door of somebody's break-in.
Source: the Fetch standard, section 3.2; differs in: a preflight from an origin that is not on the
list is refused with 403, so that whoever debugs it reads why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from month1_caching_gateway.gateway.problems import Header, Refused
from scalelab.errors import InvalidInput

ORIGIN = b"origin"
ANY = "*"

_ORIGIN = re.compile(
    r"https?://[a-z0-9.\-]+(?::\d{1,5})?\Z|https?://\[[0-9a-f:.]+\](?::\d{1,5})?\Z"
)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z")
OWNED = frozenset(
    (
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-allow-methods",
        b"access-control-allow-headers",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
    )
)
"""Headers of an answer that are ours to say."""


@dataclass(frozen=True, slots=True)
class Cors:
    """origins: as browsers send them (scheme, host, port), or `*` alone, for public answers.

    headers: request headers a page may send beside the safe ones. expose: answer headers it may
    read beside the safe ones. methods: none = those of the route. max_age_s: how long a browser
    may remember a preflight. Raises InvalidInput for an origin no browser would send.
    """

    origins: frozenset[str]
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    credentials: bool = False
    max_age_s: int = 600

    def __post_init__(self) -> None:
        if ANY in self.origins and (self.credentials or len(self.origins) > 1):
            raise InvalidInput("`*` stands alone and without credentials", field="origins")
        for origin in self.origins - {ANY}:
            if not _ORIGIN.match(origin):
                raise InvalidInput(f"{origin!r} is no origin a browser sends", field="origins")
        for name in (*self.headers, *self.expose, *self.methods):
            if not _TOKEN.match(name):
                raise InvalidInput(f"{name!r} is no header or method name", field="headers")
        if self.max_age_s < 0:
            raise InvalidInput("max_age_s must be >= 0", field="max_age_s")

    def allows(self, origin: bytes) -> bool:
        """C1. origin: as sent."""
        return ANY in self.origins or origin.decode("latin-1") in self.origins


def value_of(headers: list[Header], wanted: bytes) -> bytes:
    """All values of a request header, joined by commas: two origins are none on the list."""
    return b",".join(value for name, value in headers if name == wanted)


def preflight_method(headers: list[Header]) -> str | None:
    """The method a preflight asks about; None if an OPTIONS request is no preflight."""
    if not value_of(headers, ORIGIN):
        return None
    asked = value_of(headers, b"access-control-request-method").decode("latin-1")
    return asked if _TOKEN.match(asked) else None


def preflight_answer(
    cors: Cors, headers: list[Header], methods: frozenset[str]
) -> tuple[Header, ...]:
    """The headers of a 204. methods: of the route. Raises Refused (403 `origin_not_allowed`)."""
    origin = value_of(headers, ORIGIN)
    if not cors.allows(origin):
        raise Refused(
            403,
            "origin_not_allowed",
            "pages of this origin may not ask here",
            headers=((b"Vary", b"Origin"),),
        )
    answer = [
        *_named(cors, origin),
        (b"access-control-allow-methods", ", ".join(cors.methods or sorted(methods)).encode()),
        (b"access-control-max-age", b"%d" % cors.max_age_s),
        (b"cache-control", b"no-store"),
    ]
    if cors.headers:
        answer.append((b"access-control-allow-headers", ", ".join(cors.headers).encode()))
    return tuple(answer)


def answer_headers(cors: Cors, headers: list[Header]) -> tuple[Header, ...]:
    """What every answer of a route gets, refusals too. headers: of the request."""
    origin = value_of(headers, ORIGIN)
    if not origin or not cors.allows(origin):
        return () if ANY in cors.origins else ((b"vary", b"Origin"),)
    named = _named(cors, origin)
    if cors.expose:
        named.append((b"access-control-expose-headers", ", ".join(cors.expose).encode()))
    return tuple(named)


def _named(cors: Cors, origin: bytes) -> list[Header]:
    if ANY in cors.origins:
        return [(b"access-control-allow-origin", b"*")]
    found = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
    if cors.credentials:
        found.append((b"access-control-allow-credentials", b"true"))
    return found
