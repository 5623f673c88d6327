"""Cache-aside that a slow reader cannot spoil, on a store that may die."""

from __future__ import annotations

from month1_caching_gateway.caching.cache_aside import Answer, CacheAside, Codec, Source, Versioned
from month1_caching_gateway.caching.entries import Entry, Kind, Policy
from month1_caching_gateway.caching.events import (
    CacheEvent,
    EntryUnreadable,
    FencesWaiting,
    FillRefused,
    Hook,
    LeaseWaited,
    Looked,
    Outcome,
    StoreFailed,
    ignore,
)
from month1_caching_gateway.caching.leases import LeasePolicy
from month1_caching_gateway.caching.metrics import count_events
from month1_caching_gateway.caching.redis_store import RedisStore
from month1_caching_gateway.caching.single_flight import SingleFlight

__all__ = [
    "Answer",
    "CacheAside",
    "CacheEvent",
    "Codec",
    "Entry",
    "EntryUnreadable",
    "FencesWaiting",
    "FillRefused",
    "Hook",
    "Kind",
    "LeasePolicy",
    "LeaseWaited",
    "Looked",
    "Outcome",
    "Policy",
    "RedisStore",
    "SingleFlight",
    "Source",
    "StoreFailed",
    "Versioned",
    "count_events",
    "ignore",
]
