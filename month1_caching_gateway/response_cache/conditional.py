"""Validators: does the client hold the stored answer already, and is the stored one still good.

Source: RFC 9110 section 13, RFC 9111 sections 4.3.2 to 4.3.4; differs in: If-Range and Range are
not evaluated, the whole answer is given, which a server may always do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from month1_caching_gateway.response_cache.directives import read_date

_TAG = re.compile(rb'\s*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|\Z)')
NOT_SENT_IN_304 = frozenset(
    (b"content-length", b"content-encoding", b"content-type", b"content-language", b"content-range")
)
CONDITIONS = frozenset(
    (
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"range",
    )
)
"""Request headers that are about the client's own copy; the cache's own fetches have others."""

_NOT_UPDATED = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade", b"content-length", b"content-encoding"),
        *(b"content-type", b"content-range", b"set-cookie"),
    )
)


def not_modified(asked: Mapping[bytes, bytes], stored: Mapping[bytes, bytes], status: int) -> bool:
    """Whether a request's conditions are answered by 304. asked, stored: lower-case names.

    If-None-Match goes before If-Modified-Since; tags are compared weakly.
    """
    if status != 200:
        return False
    tags = asked.get(b"if-none-match")
    if tags is not None:
        return _holds_tag(tags, stored.get(b"etag"))
    since = read_date(asked.get(b"if-modified-since"))
    changed = read_date(stored.get(b"last-modified"))
    return since is not None and changed is not None and changed <= since


def _holds_tag(tags: bytes, etag: bytes | None) -> bool:
    if tags.strip() == b"*":
        return True
    mine = _TAG.match(etag or b"")
    if mine is None:
        return False
    at = 0
    while at < len(tags):
        found = _TAG.match(tags, at)
        if found is None:
            return False
        if found.group(1) == mine.group(1):
            return True
        at = found.end()
    return False


def validation_headers(stored: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """What a fetch adds to ask whether the stored answer is still good; empty if nobody can say."""
    found: list[tuple[bytes, bytes]] = []
    if b"etag" in stored:
        found.append((b"if-none-match", stored[b"etag"]))
    if b"last-modified" in stored:
        found.append((b"if-modified-since", stored[b"last-modified"]))
    return found


def selects(fresh: Mapping[bytes, bytes], stored: Mapping[bytes, bytes]) -> bool:
    """Whether a 304 is about the stored answer: a tag it names must be the stored one's."""
    tag = fresh.get(b"etag")
    return tag is None or tag == stored.get(b"etag")


def updated(
    stored: list[tuple[bytes, bytes]], fresh: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """The stored headers with those of a 304 in their places (RFC 9111 section 3.2)."""
    news = [(name, value) for name, value in fresh if name not in _NOT_UPDATED]
    replaced = {name for name, _ in news}
    return [(name, value) for name, value in stored if name not in replaced] + news
