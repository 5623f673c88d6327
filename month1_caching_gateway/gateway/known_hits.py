"""Hits remembered by the very request that asked: the same bytes get the same answer, while fresh.

A client repeats its request line and its header block, and known_heads.py gives equal bytes the
same two objects. For such a pair the whole decision (no credentials, no wishes, this key, this
variant) was made before; what can change is whether the answer is still kept, still fresh, and
which second it is: Age and the time left are written once a second.
"""

from __future__ import annotations

from dataclasses import dataclass

from month1_caching_gateway.gateway.heads import (
    Fields,
    Framing,
    RequestHead,
    RequestLine,
    ResponseHead,
)
from month1_caching_gateway.gateway.interception import OwnAnswer
from month1_caching_gateway.gateway.recent import Recent
from month1_caching_gateway.response_cache import CachePolicy, Entry, Key

_SIZE = 4096


@dataclass(slots=True)
class _Known:
    line: RequestLine
    fields: Fields
    policy: CachePolicy
    key: Key
    entry: Entry
    fresh_until_s: float
    written_until_s: float
    answer: OwnAnswer


class KnownHits:
    """At most a few thousand. name: of this cache in Cache-Status."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._known: Recent[tuple[int, int], _Known] = Recent(_SIZE)

    def find(
        self, head: RequestHead, policy: CachePolicy, now_s: float
    ) -> tuple[Key, OwnAnswer] | None:
        """The answer of a request that was a hit before, if nothing has changed but the time."""
        known = self._known.get((id(head.line), id(head.fields)))
        if (
            known is None
            or known.line is not head.line
            or known.fields is not head.fields
            or known.policy is not policy
            or not known.entry.kept
            or now_s >= known.fresh_until_s
        ):
            return None
        if now_s >= known.written_until_s:
            self._write(known, now_s)
        return known.key, known.answer

    def remember(
        self, head: RequestHead, policy: CachePolicy, key: Key, entry: Entry, now_s: float
    ) -> OwnAnswer:
        """The answer of a hit without conditions, and the same for those who ask alike."""
        freshness = entry.freshness
        fresh_until_s = now_s + freshness.lifetime_s - freshness.age_s(now_s)
        nothing = OwnAnswer(ResponseHead(200, [], Framing.NONE, 0, True, b""), b"")
        known = _Known(head.line, head.fields, policy, key, entry, fresh_until_s, now_s, nothing)
        self._write(known, now_s)
        self._known.put((id(head.line), id(head.fields)), known)
        return known.answer

    def _write(self, known: _Known, now_s: float) -> None:
        entry = known.entry
        age_s = entry.freshness.age_s(now_s)
        left_s = entry.freshness.lifetime_s - age_s
        headers = [
            *entry.headers,
            (b"age", b"%d" % age_s),
            (b"cache-status", self._name + b"; hit; ttl=%d" % left_s),
        ]
        if entry.status != 204:
            headers.append((b"content-length", b"%d" % len(entry.body)))
        made = ResponseHead(entry.status, headers, Framing.LENGTH, len(entry.body), True, b"")
        known.answer = OwnAnswer(made, entry.body)
        known.written_until_s = now_s + 1.0 - age_s % 1.0
