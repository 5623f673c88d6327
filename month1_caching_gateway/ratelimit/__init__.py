"""Rate limiting by token bucket: a pure core, a Redis and a memory store, a failure policy."""

from month1_caching_gateway.ratelimit.limiter import FailurePolicy, Limiter, Store, StoreFailed
from month1_caching_gateway.ratelimit.memory_store import MemoryStore
from month1_caching_gateway.ratelimit.redis_store import RedisStore
from month1_caching_gateway.ratelimit.token_bucket import (
    Bucket,
    Decision,
    Policy,
    decide,
    full_after_s,
)

__all__ = [
    "Bucket",
    "Decision",
    "FailurePolicy",
    "Limiter",
    "MemoryStore",
    "Policy",
    "RedisStore",
    "Store",
    "StoreFailed",
    "decide",
    "full_after_s",
]
