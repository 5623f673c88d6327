"""May this answer be kept for others: a reason why not, or None.

Invariants (tests cite them)
    T1  Nothing is kept that one caller alone may see: answers to a request with credentials,
        answers that set a cookie, `private`, `no-store`.
    T2  Nothing is kept that cannot be chosen rightly: `Vary: *`, or by a header the service never
        saw; partial content; answers to anything but GET.
    T3  Nothing is kept that could never be used: neither fresh, nor allowed stale, nor validatable.

Source: RFC 9111 section 3; differs in: stricter. An answer to a request with Authorization is not
kept even if it says `public`, and `must-understand` does not lift `no-store`.
"""

from __future__ import annotations

from collections.abc import Mapping

from month1_caching_gateway.response_cache.directives import Directives
from month1_caching_gateway.response_cache.freshness import Freshness
from month1_caching_gateway.response_cache.policy import CachePolicy

STATUSES = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
"""Final statuses whose meaning we know and that RFC 9110 section 15.1 calls cacheable."""

_CREDENTIALS = frozenset((b"authorization", b"cookie", b"x-api-key", b"proxy-authorization"))


def has_credentials(names: Mapping[bytes, bytes]) -> bool:
    """Whether a request says who asks; such requests pass by the cache both ways (T1)."""
    return not _CREDENTIALS.isdisjoint(names)


def why_not_stored(
    status: int,
    headers: Mapping[bytes, bytes],
    directives: Directives,
    freshness: Freshness,
    policy: CachePolicy,
) -> str | None:
    """headers: of the answer, lower-case names, several values joined by commas."""
    if status not in STATUSES:
        return "status"
    if directives.no_store:
        return "no-store"
    if directives.private:
        return "private"
    if b"set-cookie" in headers:
        return "set-cookie"
    if not vary_names(headers) <= policy.visible:
        return "vary"
    if b"content-range" in headers:
        return "partial"
    validatable = b"etag" in headers or b"last-modified" in headers
    usable_s = freshness.lifetime_s + max(
        freshness.stale_while_revalidate_s, freshness.stale_if_error_s
    )
    if not validatable and usable_s <= freshness.age_at_receipt_s:
        return "expired"
    return None


def vary_names(headers: Mapping[bytes, bytes]) -> frozenset[bytes]:
    """The request headers an answer was chosen by, in lower case; may hold `*`."""
    vary = headers.get(b"vary", b"").lower()
    return frozenset(name for name in (part.strip() for part in vary.split(b",")) if name)
