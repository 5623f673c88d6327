"""Each Lua script and its pure core decide alike, step by step, on a real Redis.

The scripts read the server's clock. Here a prologue in front of the unchanged script answers TIME
from a key, so that the same instants can be given to both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from month1_caching_gateway.ratelimit import (
    CONCURRENCY,
    RATE_ALGORITHMS,
    Algorithm,
    Ask,
    Decision,
    LeaseAsk,
    LeasePolicy,
    LeaseStep,
    Policy,
    RateAlgorithm,
    script_text,
)

PROLOGUE = """
local server = redis
local redis = {call = function(name, ...)
  if name == 'TIME' then
    return {server.call('GET', 'now:s'), server.call('GET', 'now:us')}
  end
  if name == 'PEXPIRE' then
    return 1  -- expiry follows the real clock, which a busy machine lets run ahead of this one
  end
  return server.call(name, ...)
end}
"""
POLICIES = [Policy(capacity, rate) for capacity in (1, 3, 10.5) for rate in (1 / 3, 7, 1000)]
PARTS = (0.1, 0.5, 1.0)
"""Of the capacity: what one request costs."""
GAPS = (0.0, 0.25, 0.9, 1.0, 2.3, -0.6)
"""In parts of a window that some of the policies have. The last is a clock that steps back."""
BEGAN_US = 1_790_000_000_123_456


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def by_script(
    client: redis.Redis,
    algorithm: Algorithm[Any, Any],
    now_us: int,
    keys: Sequence[str],
    questions: Sequence[Any],
) -> list[Decision]:
    client.mset({"now:s": now_us // 1_000_000, "now:us": now_us % 1_000_000})
    arguments = [one for question in questions for one in algorithm.pack(question)]
    raw: Any = client.eval(PROLOGUE + script_text(algorithm), len(keys), *keys, *arguments)
    return [
        Decision(raw[at] == 1, float(raw[at + 1]), float(raw[at + 2]))
        for at in range(0, len(raw), 3)
    ]


@pytest.mark.parametrize("gap_unit_us", [100_000, 3_000_000], ids=str)
@pytest.mark.parametrize("algorithm", RATE_ALGORITHMS, ids=lambda one: one.name)
def test_a_rate_script_decides_as_its_core(
    client: redis.Redis, algorithm: RateAlgorithm, gap_unit_us: int
) -> None:
    """Every policy and cost, along every walk of three gaps: equal to the last bit."""
    asks = [Ask(policy, part * policy.capacity) for policy in POLICIES for part in PARTS]
    refused = 0
    for walk, gaps in enumerate(itertools.product(GAPS, repeat=3)):
        keys = [f"{walk}:{at}" for at in range(len(asks))]
        states: list[Any] = [None] * len(asks)
        now_us = BEGAN_US
        for gap in (0.0, 0.0, *gaps):
            now_us += int(gap * gap_unit_us)
            now_s = float(now_us // 1_000_000) + float(now_us % 1_000_000) / 1_000_000
            expected: list[Decision] = []
            for at, ask in enumerate(asks):
                states[at], decision = algorithm.step(states[at], ask, now_s)
                expected.append(decision)
            assert by_script(client, algorithm, now_us, keys, asks) == expected
            refused += sum(not one.admitted for one in expected)
    assert refused > 500


def test_the_lease_script_decides_as_its_core(client: redis.Redis) -> None:
    """Every walk of four steps by three holders, with gaps around the length of a lease."""
    steps = list(itertools.product(LeaseStep, "abc"))
    gaps_us = itertools.cycle([0, 400_000, 0, 1_000_000, 250_000, 0, 600_000])
    walks = list(itertools.product(steps, repeat=4))
    policies = [LeasePolicy(1, 1.0), LeasePolicy(2, 1.0)]
    keys = [f"{walk}:{slots}" for walk in range(len(walks)) for slots in range(len(policies))]
    states: list[Any] = [()] * len(keys)
    now_us = BEGAN_US
    for at in range(4):
        now_us += next(gaps_us)
        now_s = float(now_us // 1_000_000) + float(now_us % 1_000_000) / 1_000_000
        asks = [LeaseAsk(policy, *walk[at]) for walk in walks for policy in policies]
        expected: list[Decision] = []
        for number, ask in enumerate(asks):
            states[number], decision = CONCURRENCY.step(states[number], ask, now_s)
            expected.append(decision)
        assert _in_parts(client, now_us, keys, asks) == expected


def _in_parts(
    client: redis.Redis, now_us: int, keys: Sequence[str], asks: Sequence[LeaseAsk]
) -> list[Decision]:
    answers: list[Decision] = []
    for first in range(0, len(keys), 500):
        part = slice(first, first + 500)
        answers += by_script(client, CONCURRENCY, now_us, keys[part], asks[part])
    return answers
