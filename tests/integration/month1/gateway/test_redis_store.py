"""The Redis store against a real server: batches, races between processes, restarts, deadlines."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from month1_caching_gateway.ratelimit import Policy, RedisStore
from scalelab.clients.redis import connect
from scalelab.errors import OutcomeUnknown, Unavailable


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    capacity=st.integers(1, 40),
    rate_per_s=st.floats(0.5, 200),
    checks=st.lists(st.sampled_from([0.5, 1.0, 1.0]), min_size=50, max_size=400),
    gateways=st.integers(1, 4),
)
def test_all_gateways_together_admit_no_more_than_capacity_plus_rate_times_t(
    redis_url: str, capacity: int, rate_per_s: float, checks: list[float], gateways: int
) -> None:
    """I2 over several stores that share the server; t by the server's own clock."""

    async def race() -> None:
        clients = [
            connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0) for _ in range(gateways)
        ]
        stores = [RedisStore(one, deadline_s=10.0, max_batch=16) for one in clients]
        policy = Policy(float(capacity), rate_per_s)
        key = f"race:{time.monotonic_ns()}"
        began_us = _microseconds(await clients[0].time())
        decisions = await asyncio.gather(
            *(stores[n % gateways].check(key, policy, cost=cost) for n, cost in enumerate(checks))
        )
        took_s = (_microseconds(await clients[0].time()) - began_us) / 1e6
        admitted = sum(cost for cost, one in zip(checks, decisions, strict=True) if one.admitted)
        assert admitted <= capacity + rate_per_s * took_s + 1e-6
        assert admitted >= min(sum(checks), capacity) - 0.5
        for store in stores:
            await store.aclose()
        for one in clients:
            await one.aclose()

    asyncio.run(race())


def _microseconds(time_answer: tuple[int, int]) -> int:
    seconds, microseconds = time_answer
    return int(seconds) * 1_000_000 + int(microseconds)


async def test_checks_of_one_tick_travel_in_one_call(redis_url: str) -> None:
    """A hundred checks cost one EVALSHA."""
    client = connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    store = RedisStore(client, deadline_s=10.0)
    policy = Policy(1000, 1)
    await store.check("k", policy)
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await asyncio.gather(*(store.check("k", policy) for _ in range(100)))
    after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 1
    await store.aclose()
    await client.aclose()


async def test_a_flushed_script_cache_is_not_noticed(redis_url: str) -> None:
    """A restarted server has forgotten the script; the store loads it again."""
    client = connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    store = RedisStore(client, deadline_s=10.0)
    policy = Policy(10, 0.001)
    assert (await store.check("k", policy)).admitted
    await client.script_flush()
    decision = await store.check("k", policy)
    assert (decision.admitted, int(decision.remaining)) == (True, 8)
    await store.aclose()
    await client.aclose()


async def test_buckets_do_not_stay_for_ever(redis_url: str) -> None:
    """A bucket expires once it would be full: memory follows the active callers."""
    client = connect(redis_url, timeout_s=10.0, connect_timeout_s=30.0)
    store = RedisStore(client, prefix="expiry:", deadline_s=10.0)
    await store.check("k", Policy(10, 2.0), cost=10)
    left_ms = await client.pttl("expiry:k")
    assert 5000 <= left_ms <= 6000
    await store.aclose()
    await client.aclose()


async def test_nobody_listens_is_unavailable(unused_port: int) -> None:
    """A refused connection: nothing was counted."""
    client = connect(f"redis://127.0.0.1:{unused_port}/0")
    store = RedisStore(client, deadline_s=10.0)
    with pytest.raises(Unavailable):
        await store.check("k", Policy(10, 1))
    await store.aclose()
    await client.aclose()


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_a_server_that_does_not_answer_is_outcome_unknown() -> None:
    """The deadline ends the wait; whether the tokens were taken cannot be known."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _r, w: held.append(w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = connect(f"redis://127.0.0.1:{port}/0", timeout_s=10.0, connect_timeout_s=10.0)
    store = RedisStore(client, deadline_s=0.05)
    with pytest.raises(OutcomeUnknown):
        await store.check("k", Policy(10, 1))
    await store.aclose()
    await client.aclose()
    for writer in held:
        writer.transport.abort()
    server.close()
