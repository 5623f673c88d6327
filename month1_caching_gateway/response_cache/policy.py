"""What a route allows the shared cache: a frozen value beside the route."""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import InvalidInput

_NEGOTIATED = frozenset((b"accept", b"accept-encoding", b"accept-language"))


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """query: names of query parameters that make up the key, in this order of trust: None = the
    whole query as sent, an empty set = no query at all. A parameter that is not in the key is not
    sent to the service either, so it cannot change what others get.

    headers: lower-case request headers that the service may see, beside the three of content
    negotiation; name what its answers vary by, and nothing else. default_ttl_s: freshness of an
    answer that says nothing about it. max_entry_bytes: larger answers pass uncached.
    stale_while_revalidate_s, stale_if_error_s: used where the answer does not say its own.
    """

    query: frozenset[bytes] | None = None
    headers: frozenset[bytes] = frozenset()
    default_ttl_s: float = 0.0
    max_entry_bytes: int = 1024 * 1024
    stale_while_revalidate_s: float = 0.0
    stale_if_error_s: float = 0.0

    def __post_init__(self) -> None:
        if self.headers & {b"authorization", b"cookie", b"x-api-key"}:
            raise InvalidInput("a shared answer cannot depend on a credential", field="headers")
        if self.max_entry_bytes < 1:
            raise InvalidInput("max_entry_bytes must be >= 1", field="max_entry_bytes")

    @property
    def visible(self) -> frozenset[bytes]:
        """The request headers that the service sees, and may name in Vary."""
        return _NEGOTIATED | self.headers
