"""What heads meant, remembered by their complete bytes, so that a client is read once.

Theory of operation
    A client sends the same header block with every request, and many clients send the same request
    line. So the two halves of a head are remembered apart: the line up to its CRLF, and all that
    follows. When both halves are known, the head is put together from the two meanings; when one is
    not, the whole head goes through the parser, which is the only judge.

Why this cannot change a decision
    K1  The key is every byte of the half, so equal keys are equal bytes.
    K2  Only what the parser accepted is remembered, never a refusal.
    K3  The meaning of a half does not depend on the other half. Where it would, nothing is
        remembered: HTTP/1.0 (other rules for Host, Connection and codings) and upgrades.
    tests/unit/month1/gateway/test_known_heads.py holds all three against the parser.

Header blocks carry credentials. What was not used for two turns (FORGET_S each) is dropped, and
blocks longer than MAX_BYTES are not kept at all; that bounds the memory too.
"""

from __future__ import annotations

from month1_caching_gateway.gateway.heads import (
    Fields,
    RequestHead,
    RequestLine,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from month1_caching_gateway.gateway.recent import Recent

FORGET_S = 10.0
MAX_BYTES = 2048
LINES = 4096
BLOCKS = 1024
ANSWERS = 256


class KnownHeads:
    """Reads the heads of requests. max_headers: as in `parse_request_head`."""

    def __init__(self, max_headers: int) -> None:
        self._max_headers = max_headers
        self._lines: Recent[bytes, RequestLine] = Recent(LINES)
        self._blocks: Recent[bytes, Fields] = Recent(BLOCKS)
        self._turn_at_s = 0.0

    def read(self, raw: bytes) -> RequestHead:
        """The head that `raw` holds, which ends with its first empty line. Raises Refused."""
        end = raw.find(b"\r\n")
        line = self._lines.get(raw[:end])
        fields = self._blocks.get(raw[end:])
        if line is not None and fields is not None:
            return RequestHead(line, fields)
        head = parse_request_head(raw, max_headers=self._max_headers)
        if len(raw) <= MAX_BYTES and not (head.line.http10 or head.fields.websocket):
            self._lines.put(raw[:end], head.line)
            self._blocks.put(raw[end:], head.fields)
        return head

    def sweep(self, now_s: float) -> None:
        """Forget what was not used lately."""
        if now_s >= self._turn_at_s:
            self._turn_at_s = now_s + FORGET_S
            self._lines.turn()
            self._blocks.turn()


class KnownAnswers:
    """Reads the heads of one endpoint's answers. Those that set a cookie are not remembered."""

    def __init__(self) -> None:
        self._heads: Recent[bytes, ResponseHead] = Recent(ANSWERS)
        self.get = self._heads.get
        self._turn_at_s = 0.0

    def read(self, raw: bytes, *, to_head_request: bool) -> ResponseHead:
        """The head that `raw` holds, 1xx included. Raises Refused (502)."""
        head = None if to_head_request else self._heads.get(raw)
        if head is None:
            head = parse_response_head(raw, to_head_request=to_head_request)
            if not to_head_request and _may_be_kept(raw, head):
                self._heads.put(raw, head)
        return head

    def sweep(self, now_s: float) -> None:
        """Forget what was not used lately."""
        if now_s >= self._turn_at_s:
            self._turn_at_s = now_s + FORGET_S
            self._heads.turn()


def _may_be_kept(raw: bytes, head: ResponseHead) -> bool:
    private = any(name == b"set-cookie" for name, _ in head.headers)
    return head.status >= 200 and len(raw) <= MAX_BYTES and not private
