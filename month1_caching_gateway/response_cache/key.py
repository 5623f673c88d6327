"""Under which name an answer is kept: everything the service could see and choose by.

Theory of operation
    An answer is poisoned when something that is not in the key changed it. So the key is made of
    the whole Host as sent on (with its port), the normalised path, and the query parameters the
    route names; and a fetch for the cache carries these and the visible headers, nothing else. What
    a stranger adds beside them never reaches the service.

Deception is the other direction: a private page asked for under a name that looks public. Routes
decide what is cached here, not suffixes; and `targets.py` has refused every second spelling.
"""

from __future__ import annotations

from collections.abc import Mapping

from month1_caching_gateway.response_cache.policy import CachePolicy

Key = tuple[bytes, str, bytes]
"""Host, path, query."""


def kept_query(query: bytes | None, policy: CachePolicy) -> bytes | None:
    """The query that is both key and sent on: whole, or the parameters the policy names.

    Named parameters are put in the order of their names, so that two orders are one answer;
    several values of one name keep theirs. A name in escapes is another name.
    """
    if query is None or policy.query is None:
        return query
    pairs = [pair for pair in query.split(b"&") if pair.partition(b"=")[0] in policy.query]
    pairs.sort(key=lambda pair: pair.partition(b"=")[0])
    return b"&".join(pairs) if pairs else None


def key_of(host: bytes, path: str, query: bytes | None) -> Key:
    """host: as sent on. query: as `kept_query` gave it; an empty one differs from none."""
    return (host, path, b"" if query is None else b"?" + query)


def variant_of(names: tuple[bytes, ...], asked: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """The request's values of the headers an answer varies by; absent and empty are one."""
    return tuple(b",".join(asked.get(name, b"").lower().split()) for name in names)
