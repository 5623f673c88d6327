"""Consistency token: how far a server must have replayed before its owner may read from it. Pure.

Theory of operation
    A write returns where the log stood after its commit. A later read brings it back, and a
    replica may answer only if it has replayed the same log at least that far. The token is text a
    client carries, so it is signed: nobody can name a position beyond the end of the log and
    thereby send every read to the primary.

        v1.<server>.<timeline>.<lsn>.<signature>
        server     whose log it is: [a-z0-9-], 1 to 40
        timeline   decimal; a failover begins a new one, and positions of two do not compare
        lsn        bytes since the log's start, decimal
        signature  HMAC-SHA256 over all before it, 16 bytes, base64url without padding

Invariants (tests cite them)
    I1  verify(sign(t)) == t.
    I2  Any other text, or another key, gives None: "read the primary". Never an error.
    I3  covers() is false across servers and across timelines.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from scalelab.errors import InvalidInput

_SHAPE = re.compile(
    r"(v1\.([a-z0-9-]{1,40})\.(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,19}))\.([A-Za-z0-9_-]{22})"
)
_SERVER = re.compile(r"[a-z0-9-]{1,40}")
_SIGNATURE_BYTES = 16
_KEY_BYTES_MIN = 16


@dataclass(frozen=True, slots=True)
class ConsistencyToken:
    """A position in the log of `server`. lsn: bytes."""

    server: str
    timeline: int
    lsn: int


@dataclass(frozen=True, slots=True)
class ReplayPosition:
    """How far a replica has replayed, as last seen. lsn: bytes."""

    timeline: int
    lsn: int


def sign(token: ConsistencyToken, key: bytes) -> str:
    """The token as text for a client. key: at least 16 secret bytes.

    Raises InvalidInput for a server name or key that breaks the rules above.
    """
    if not _SERVER.fullmatch(token.server):
        raise InvalidInput(f"{token.server!r} cannot name a server in a token", field="server")
    if len(key) < _KEY_BYTES_MIN:
        raise InvalidInput("a token key has at least 16 bytes", field="key")
    payload = f"v1.{token.server}.{token.timeline}.{token.lsn}"
    return f"{payload}.{_signature(payload, key)}"


def verify(text: str | None, keys: Sequence[bytes]) -> ConsistencyToken | None:
    """The token in `text` if one of `keys` signed it, else None. Several keys allow rotation."""
    match = _SHAPE.fullmatch(text) if text else None
    if match is None:
        return None
    payload, server, timeline, lsn, signature = match.groups()
    genuine = [hmac.compare_digest(_signature(payload, key), signature) for key in keys]
    if not any(genuine):
        return None
    return ConsistencyToken(server, int(timeline), int(lsn))


def covers(position: ReplayPosition, server: str, token: ConsistencyToken) -> bool:
    """Whether a replica of `server` at `position` shows everything the token's owner wrote."""
    same_log = token.server == server and token.timeline == position.timeline
    return same_log and position.lsn >= token.lsn


def _signature(payload: str, key: bytes) -> str:
    digest = hmac.digest(key, payload.encode(), "sha256")[:_SIGNATURE_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
