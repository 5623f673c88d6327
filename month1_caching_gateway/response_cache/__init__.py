"""A shared HTTP cache's rules: what may be kept, how long it is fresh, for whom it was chosen."""

from month1_caching_gateway.response_cache.conditional import (
    CONDITIONS,
    NOT_SENT_IN_304,
    not_modified,
    selects,
    updated,
    validation_headers,
)
from month1_caching_gateway.response_cache.directives import (
    NO_DIRECTIVES,
    Directives,
    read_date,
    read_directives,
    write_date,
)
from month1_caching_gateway.response_cache.entry import Entry, EntryStore
from month1_caching_gateway.response_cache.freshness import Freshness, Use, freshness_of
from month1_caching_gateway.response_cache.key import Key, kept_query, key_of, variant_of
from month1_caching_gateway.response_cache.policy import CachePolicy
from month1_caching_gateway.response_cache.storable import (
    has_credentials,
    vary_names,
    why_not_stored,
)

__all__ = [
    "CONDITIONS",
    "NOT_SENT_IN_304",
    "NO_DIRECTIVES",
    "CachePolicy",
    "Directives",
    "Entry",
    "EntryStore",
    "Freshness",
    "Key",
    "Use",
    "freshness_of",
    "has_credentials",
    "kept_query",
    "key_of",
    "not_modified",
    "read_date",
    "read_directives",
    "selects",
    "updated",
    "validation_headers",
    "variant_of",
    "vary_names",
    "why_not_stored",
    "write_date",
]
