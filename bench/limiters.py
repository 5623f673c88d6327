"""Rate limits per check, beside `limits` and `pyrate-limiter`, in Redis and in memory.

Callers are coroutines of this process; the number is CPU of this process, the client's side of the
work, per check. With 32 callers our checks of one loop tick travel in one script call; with one
caller there is nothing to batch, so that figure shows what the batching costs. Each subject has
512 keys in turn and a limit nobody reaches. `pyrate-limiter` keeps one bucket an object, so it has
one key. Exactness is counted, not timed: 400 checks at once of one key that holds 40.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import redis.asyncio as redis_asyncio
import uvloop
from limits import RateLimitItemPerHour
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter
from pyrate_limiter import InMemoryBucket, Rate, RateItem, RedisBucket

from month1_caching_gateway.ratelimit import (
    FIXED_WINDOW,
    SLIDING_WINDOW,
    MemoryStore,
    Policy,
    RedisStore,
)
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import Sense, compare, is_void
from scalelab.lab.course.rounds import Measure, paired
from scalelab.lab.servers import Redis

MONTH = "month1"
_KEYS = tuple(f"caller-{number}" for number in range(512))
_PLENTY = 10**9
_HOUR_S = 3600.0
_UNIT = "CPU µs/check"
_PILE = 40
_RUSH = 400

Check = Callable[[str], Awaitable[bool]]
"""Take one of a key's allowance; whether it was there."""


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about two minutes."""
    server = Redis("redis")
    options.runtime.start(server)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        try:
            checks = runner.run(_checks(server.url, stack))
            figures = _compared(options, runner, checks)
            figures += runner.run(_exactness(server.url))
        finally:
            runner.run(stack.aclose())
    return figures


async def _checks(url: str, stack: AsyncExitStack) -> dict[str, Check]:
    """Every subject by name, its connections open."""
    clock, policy = SystemClock(), Policy(_PLENTY, _PLENTY / _HOUR_S)
    client = connect(url, timeout_s=10.0, max_connections=256)
    stack.push_async_callback(client.aclose)
    ours: dict[str, Check] = {}
    for algorithm in (FIXED_WINDOW, SLIDING_WINDOW):
        store = RedisStore(
            client, prefix=f"{algorithm.name}:", deadline_s=10.0, algorithm=algorithm
        )
        ours[algorithm.name] = _ours(store.check, policy)
    item = RateLimitItemPerHour(_PLENTY)
    shared = RedisStorage(f"async+{url}", implementation="redispy", max_connections=256)
    plain = redis_asyncio.Redis.from_url(url)
    stack.push_async_callback(plain.aclose)
    made = RedisBucket.init([Rate(_PLENTY, 3_600_000)], plain, "pyrate")
    bucket = await made if isinstance(made, Awaitable) else made
    memory = MemoryStore(clock, algorithm=FIXED_WINDOW)
    return {
        **ours,
        "limits fixed_window": _theirs(FixedWindowRateLimiter(shared), item),
        "limits sliding_window": _theirs(SlidingWindowCounterRateLimiter(shared), item),
        "pyrate-limiter": _pyrate(bucket),
        "memory": _ours(memory.check, policy),
        "limits memory": _theirs(FixedWindowRateLimiter(MemoryStorage()), item),
        "pyrate-limiter memory": _pyrate(InMemoryBucket([Rate(_PLENTY, 3_600_000)])),
    }


def _ours(check: Callable[..., Awaitable[object]], policy: Policy) -> Check:
    async def one(key: str) -> bool:
        decision = await check(key, policy)
        return bool(getattr(decision, "admitted"))  # noqa: B009 - two stores, one shape

    return one


def _theirs(
    limiter: FixedWindowRateLimiter | SlidingWindowCounterRateLimiter, item: RateLimitItemPerHour
) -> Check:
    async def one(key: str) -> bool:
        return await limiter.hit(item, key)

    return one


def _pyrate(bucket: RedisBucket | InMemoryBucket) -> Check:
    async def one(key: str) -> bool:
        put = bucket.put(RateItem(key, time.time_ns() // 1_000_000))
        return bool(await put if isinstance(put, Awaitable) else put)

    return one


def _compared(
    options: Options, runner: asyncio.Runner, checks: dict[str, Check]
) -> list[AnyFigure]:
    def pair(ours: str, peer: str, callers: int) -> tuple[Measure, Measure]:
        return (
            _measure(runner, checks[peer], callers),
            _measure(runner, checks[ours], callers),
        )

    def figure(
        ours: str, peer: str, callers: int, sense: Sense = "at_least", gate: float = 1.0
    ) -> Figure:
        options.note(f"in turns: {peer}, {ours}, {callers} callers")
        a, b = pair(ours, peer, callers)
        if sense == "at_most":
            a, b = b, a
        rounds = paired(a, b, rounds=options.rounds, round_s=options.in_process_round_s)
        unit = f"{_UNIT}, {'peer / ours' if sense == 'at_least' else 'ours / peer'}"
        name = f"{ours}, {callers} callers" if callers > 1 else f"{ours}, 1 caller"
        ratio = compare(rounds, options.generator)
        return Figure("limiters", name, peer, unit, ratio, sense, gate)

    control = compare(
        paired(
            *(_measure(runner, checks["fixed_window"], 32) for _ in range(2)),
            rounds=options.rounds,
            round_s=options.in_process_round_s,
        ),
        options.generator,
    )
    if is_void(control):
        options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
    return [
        figure("fixed_window", "limits fixed_window", 32, gate=5.0),
        figure("sliding_window", "limits sliding_window", 32, gate=5.0),
        figure("fixed_window", "limits fixed_window", 1, "at_most", 1.2),
        figure("sliding_window", "limits sliding_window", 1, "at_most", 1.2),
        figure("fixed_window", "pyrate-limiter", 32),
        figure("memory", "limits memory", 1),
        figure("memory", "pyrate-limiter memory", 1),
    ]


def _measure(runner: asyncio.Runner, check: Check, callers: int) -> Measure:
    def measure(seconds: float) -> float:
        return runner.run(_load(check, callers, seconds))

    return measure


async def _load(check: Check, callers: int, seconds: float) -> float:
    """CPU µs of this process per check, with so many callers in closed loops."""
    end_s = time.perf_counter() + seconds
    done = 0

    async def call(keys: Sequence[str]) -> None:
        nonlocal done
        turn = itertools.cycle(keys)
        while time.perf_counter() < end_s:
            for _ in range(16):
                if not await check(next(turn)):
                    raise RuntimeError("a limit nobody can reach was reached")
                done += 1

    begun_s = time.process_time()
    await asyncio.gather(*(call(_KEYS[number::callers]) for number in range(callers)))
    return (time.process_time() - begun_s) * 1e6 / done


async def _exactness(url: str) -> list[AnyFigure]:
    """How many of 400 at once pass where 40 may: exactly 40, over four clients."""
    clients = [connect(url, timeout_s=10.0) for _ in range(4)]
    stores = [RedisStore(one, prefix="rush:", deadline_s=10.0, max_batch=16) for one in clients]
    policy = Policy(_PILE, 1e-6)
    decisions = await asyncio.gather(
        *(stores[number % 4].check("one", policy) for number in range(_RUSH))
    )
    for store in stores:
        await store.aclose()
    for one in clients:
        await one.aclose()
    admitted = float(sum(one.admitted for one in decisions))
    what = f"admitted of {_RUSH} at once where {_PILE} may"
    return [LimitFigure("limiters", what, "checks", admitted, "at_most", float(_PILE))]
