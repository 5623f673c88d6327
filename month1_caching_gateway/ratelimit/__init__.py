"""Rate limits: five algorithms as pure cores, a Redis and a memory store, a failure policy."""

from month1_caching_gateway.ratelimit.algorithm import (
    CONCURRENCY,
    FIXED_WINDOW,
    GCRA,
    RATE_ALGORITHMS,
    SLIDING_WINDOW,
    TOKEN_BUCKET,
    Algorithm,
    Ask,
    Asker,
    RateAlgorithm,
)
from month1_caching_gateway.ratelimit.concurrency import (
    Lease,
    LeaseAsk,
    LeasePolicy,
    Leases,
    LeaseStep,
    lease_decide,
)
from month1_caching_gateway.ratelimit.concurrency_limit import ConcurrencyLimit
from month1_caching_gateway.ratelimit.failure import FailurePolicy, StoreFailed
from month1_caching_gateway.ratelimit.fixed_window import (
    Window,
    empty_window,
    window_decide,
    window_s,
)
from month1_caching_gateway.ratelimit.gcra import Meter, dry, meter_decide, theoretical_arrival_s
from month1_caching_gateway.ratelimit.keys import (
    Caller,
    CountedBy,
    LeaseCheck,
    LeaseRule,
    RateCheck,
    Rule,
    address_block,
    check_for,
    lease_for,
)
from month1_caching_gateway.ratelimit.lease_limiter import Hold, LeaseLimiter
from month1_caching_gateway.ratelimit.limiter import Answer, Limiter, Store
from month1_caching_gateway.ratelimit.limiters import Limiters, MemoryStores, RedisStores, Stores
from month1_caching_gateway.ratelimit.memory_store import MemoryStore, MemoryTable
from month1_caching_gateway.ratelimit.redis_batches import RedisBatches, script_text
from month1_caching_gateway.ratelimit.redis_store import RedisStore
from month1_caching_gateway.ratelimit.sliding_window import Pair, empty_pair, pair_decide
from month1_caching_gateway.ratelimit.token_bucket import (
    Bucket,
    Decision,
    Policy,
    decide,
    full_after_s,
)

__all__ = [
    "CONCURRENCY",
    "FIXED_WINDOW",
    "GCRA",
    "RATE_ALGORITHMS",
    "SLIDING_WINDOW",
    "TOKEN_BUCKET",
    "Algorithm",
    "Answer",
    "Ask",
    "Asker",
    "Bucket",
    "Caller",
    "ConcurrencyLimit",
    "CountedBy",
    "Decision",
    "FailurePolicy",
    "Hold",
    "Lease",
    "LeaseAsk",
    "LeaseCheck",
    "LeaseLimiter",
    "LeasePolicy",
    "LeaseRule",
    "LeaseStep",
    "Leases",
    "Limiter",
    "Limiters",
    "MemoryStore",
    "MemoryStores",
    "MemoryTable",
    "Meter",
    "Pair",
    "Policy",
    "RateAlgorithm",
    "RateCheck",
    "RedisBatches",
    "RedisStore",
    "RedisStores",
    "Rule",
    "Store",
    "StoreFailed",
    "Stores",
    "Window",
    "address_block",
    "check_for",
    "decide",
    "dry",
    "empty_pair",
    "empty_window",
    "full_after_s",
    "lease_decide",
    "lease_for",
    "meter_decide",
    "pair_decide",
    "script_text",
    "theoretical_arrival_s",
    "window_decide",
    "window_s",
]
