"""Redis killed, frozen and flushed while callers press: never more than the stated bound passes.

Every caller sends its next request when the last one is answered, all under one key. The bound is
limiter.py's: what the store admits in the time, what this process's share admits in it, and one
capacity more for each time the store lost its data.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import redis.asyncio as redis_asyncio

from month1_caching_gateway.gateway import Route
from month1_caching_gateway.ratelimit import (
    RATE_ALGORITHMS,
    FailurePolicy,
    LeasePolicy,
    LeaseRule,
    Limiters,
    Policy,
    RateAlgorithm,
    RedisStores,
    Rule,
    StoreFailed,
)
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from tests.integration.month1.gateway.harness import (
    Answer,
    Peer,
    Running,
    Seen,
    client,
    peer,
    running,
    until,
)

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Redis

POLICY = Policy(20, 20.0)
ROUTE = Route("app", prefix="/", auth="none", rate="r")
CALLERS = 12


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """One loop is enough here: each test starts a server."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def own_redis(own_runtime: Runtime) -> Redis:
    """A Redis of this test alone; what it had is gone when it was killed."""
    from scalelab.lab.servers import Redis

    server = Redis("limits", settings={"appendonly": "no"})
    own_runtime.start(server)
    return server


class Pressed:
    """A gateway under load: statuses as they came, and how often the store failed."""

    def __init__(self, gateway: Running, app: Peer, redis: redis_asyncio.Redis) -> None:
        self.gateway = gateway
        self.app = app
        self.redis = redis
        self.failures: list[StoreFailed] = []
        self.statuses: Counter[int] = Counter()
        self.began_s = time.monotonic()
        self.stopped = False

    async def call(self) -> None:
        async with client(self.gateway.port) as http:
            while not self.stopped:
                self.statuses[(await http.ask("GET", "/")).status] += 1

    async def more(self, count: int = 150) -> None:
        """So many more requests are answered: nobody waits for ever."""
        aim = self.statuses.total() + count
        await until(lambda: self.statuses.total() >= aim, "requests are answered")

    async def stores_again(self) -> None:
        """The store counts again: it holds a key that was not there after a flush."""
        await self.redis.flushall()
        async with asyncio.timeout(20):
            while not await self.redis.keys("ratelimit:*"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@asynccontextmanager
async def pressed(url: str, rule: Rule | LeaseRule) -> AsyncIterator[Pressed]:
    redis = connect(url, timeout_s=5.0, connect_timeout_s=5.0)
    stores = RedisStores(redis, deadline_s=0.1)
    events: list[StoreFailed] = []
    limiters = Limiters(stores, SystemClock(), cooloff_s=0.1, on_event=events.append)
    watch = connect(url, timeout_s=5.0, connect_timeout_s=5.0)
    async with peer() as app, running([app], [ROUTE], limiter=limiters, rates={"r": rule}) as gw:
        load = Pressed(gw, app, watch)
        load.failures = events
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(load.call())
            try:
                yield load
            finally:
                load.stopped = True
    await stores.aclose()
    await redis.aclose()
    await watch.aclose()


def rule(algorithm: RateAlgorithm, on_failure: FailurePolicy) -> Rule:
    return Rule("r", POLICY, algorithm=algorithm, on_failure=on_failure)


def check(load: Pressed, algorithm: RateAlgorithm, *, losses: int, shares: int) -> None:
    """Every 200 is the service's own, and there are no more of them than the bound says."""
    t_s = (time.monotonic() - load.began_s) * 1.001
    bound = algorithm.bound(POLICY, t_s) * (1 + shares) + losses * POLICY.capacity
    assert load.statuses[200] == len(load.app.seen)
    assert POLICY.capacity <= load.statuses[200] <= bound


@pytest.mark.parametrize("algorithm", RATE_ALGORITHMS, ids=lambda one: one.name)
async def test_a_redis_that_dies_and_returns_admits_no_more_than_the_bound(
    own_runtime: Runtime, own_redis: Redis, algorithm: RateAlgorithm
) -> None:
    """Killed and started again, empty: one share and one capacity more, and it counts again."""
    async with pressed(own_redis.url, rule(algorithm, FailurePolicy.LOCAL_SHARE)) as load:
        await load.more()
        await asyncio.to_thread(own_runtime.kill, "limits")
        await until(lambda: bool(load.failures))
        await load.more()
        await asyncio.to_thread(own_runtime.restart, "limits")
        await load.stores_again()
        await load.more()
    assert set(load.statuses) == {200, 429}
    check(load, algorithm, losses=2, shares=1)


async def test_a_frozen_redis_costs_nobody_more_than_the_stores_deadline(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """SIGSTOP: the share decides, no request runs into the admission's own deadline."""
    token_bucket = RATE_ALGORITHMS[0]
    async with pressed(own_redis.url, rule(token_bucket, FailurePolicy.LOCAL_SHARE)) as load:
        await load.more()
        own_runtime.pause("limits")
        try:
            await until(lambda: bool(load.failures))
            await load.more()
        finally:
            own_runtime.resume("limits")
        await load.stores_again()
        await load.more()
    assert set(load.statuses) == {200, 429}
    check(load, token_bucket, losses=1, shares=1)


async def test_a_flushed_redis_gives_each_key_one_capacity_anew(own_redis: Redis) -> None:
    """FLUSHALL and SCRIPT FLUSH under load: no failure is seen, and the bound grows by as much."""
    token_bucket = RATE_ALGORITHMS[0]
    async with pressed(own_redis.url, rule(token_bucket, FailurePolicy.CLOSED)) as load:
        for _ in range(3):
            await load.more()
            await load.redis.flushall()
            await load.redis.script_flush()
        await load.more()
    assert set(load.statuses) <= {200, 429, 503}
    check(load, token_bucket, losses=3, shares=0)


@pytest.mark.parametrize(
    ("on_failure", "statuses"),
    [(FailurePolicy.OPEN, {200}), (FailurePolicy.CLOSED, {503})],
)
async def test_a_rule_says_what_happens_without_redis(
    own_runtime: Runtime, own_redis: Redis, on_failure: FailurePolicy, statuses: set[int]
) -> None:
    """Open admits all, closed refuses all; both count again when it is back."""
    async with pressed(own_redis.url, rule(RATE_ALGORITHMS[0], on_failure)) as load:
        await load.more()
        await asyncio.to_thread(own_runtime.kill, "limits")
        await until(lambda: bool(load.failures))
        await load.more(2 * CALLERS)  # those under way have ended
        before = Counter(load.statuses)
        await load.more()
        assert set(load.statuses - before) == statuses
        await asyncio.to_thread(own_runtime.restart, "limits")
        await load.stores_again()
        await until(lambda: load.statuses[429] > before[429])
    assert load.statuses[200] == len(load.app.seen)


async def test_no_more_are_under_way_than_slots_whatever_befalls_redis(
    own_runtime: Runtime, own_redis: Redis
) -> None:
    """Two slots in Redis and two in the local share: at most four at a time, none of them lost."""
    slots = LeaseRule("r", LeasePolicy(2, 30.0))
    most: list[int] = [0]
    under_way: list[int] = [0]
    async with pressed(own_redis.url, slots) as load:
        load.app.answer = _counting(load.app.answer, under_way, most)
        await load.more(60)
        assert most[0] <= 2
        await asyncio.to_thread(own_runtime.kill, "limits")
        await until(lambda: bool(load.failures))
        await load.more(60)
        await asyncio.to_thread(own_runtime.restart, "limits")
        await load.more(60)
    assert most[0] <= 4
    assert load.statuses[200] == len(load.app.seen)
    assert set(load.statuses) == {200, 429}


def _counting(answer: Answer, under_way: list[int], most: list[int]) -> Answer:
    async def counted(
        seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        await asyncio.sleep(0)
        try:
            return await answer(seen, reader, writer)
        finally:
            under_way[0] -= 1

    return counted
