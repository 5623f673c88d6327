"""Caches that a slow reader cannot spoil, in one tier or two, on a store that may die."""

from __future__ import annotations

from month1_caching_gateway.caching.answers import Answer, Codec, Versioned
from month1_caching_gateway.caching.cache_aside import CacheAside, Source
from month1_caching_gateway.caching.entries import Entry, Kind, Policy
from month1_caching_gateway.caching.events import (
    CacheEvent,
    EntryTooLarge,
    EntryUnreadable,
    FencesWaiting,
    FillRefused,
    HearingChanged,
    Hook,
    LeaseWaited,
    Looked,
    Outcome,
    RefreshFailed,
    StoreFailed,
    WritesLost,
    WritesWaiting,
    ignore,
)
from month1_caching_gateway.caching.invalidation import Hearing, Invalidations, Listener, Mode
from month1_caching_gateway.caching.known_keys import KnownKeys
from month1_caching_gateway.caching.leases import LeasePolicy
from month1_caching_gateway.caching.lfu import Lfu
from month1_caching_gateway.caching.lru import Lru
from month1_caching_gateway.caching.memcached_store import MemcachedStore
from month1_caching_gateway.caching.metrics import count_events
from month1_caching_gateway.caching.process_tier import ProcessTier
from month1_caching_gateway.caching.read_through import ReadThrough
from month1_caching_gateway.caching.redis_store import RedisStore
from month1_caching_gateway.caching.remote_store import RemoteStore
from month1_caching_gateway.caching.single_flight import SingleFlight
from month1_caching_gateway.caching.write_behind import WriteBehind, WriteBehindPolicy
from month1_caching_gateway.caching.write_through import WriteThrough

__all__ = [
    "Answer",
    "CacheAside",
    "CacheEvent",
    "Codec",
    "Entry",
    "EntryTooLarge",
    "EntryUnreadable",
    "FencesWaiting",
    "FillRefused",
    "Hearing",
    "HearingChanged",
    "Hook",
    "Invalidations",
    "Kind",
    "KnownKeys",
    "LeasePolicy",
    "LeaseWaited",
    "Lfu",
    "Listener",
    "Looked",
    "Lru",
    "MemcachedStore",
    "Mode",
    "Outcome",
    "Policy",
    "ProcessTier",
    "ReadThrough",
    "RedisStore",
    "RefreshFailed",
    "RemoteStore",
    "SingleFlight",
    "Source",
    "StoreFailed",
    "Versioned",
    "WriteBehind",
    "WriteBehindPolicy",
    "WriteThrough",
    "WritesLost",
    "WritesWaiting",
    "count_events",
    "ignore",
]
