"""Clients that write, swap and read while somebody breaks the cluster, and what they saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random

from month5_kvstore.client import KvClient
from month5_kvstore.simulation import Call
from scalelab.clock import SystemClock
from scalelab.errors import OutcomeUnknown, Unavailable

Fault = Callable[[], None]


async def history(
    urls: dict[int, str],
    keys: list[str],
    *,
    calls: int,
    clients: int,
    seed: int,
    faults: dict[int, Fault],
) -> list[Call]:
    """Calls of all clients. faults: by the number of calls begun when it happens.

    A call that was certainly not carried out is left out; one whose outcome is unknown has no end.
    """
    made: list[Call] = []
    started = 0

    async def one(number: int) -> None:
        nonlocal started
        random = Random(seed * 1000 + number)
        async with KvClient(urls, clock=SystemClock(), random=random, attempt_s=3.0) as client:
            for _ in range(calls // clients):
                started += 1
                fault = faults.pop(started, None)
                if fault is not None:
                    await asyncio.to_thread(fault)
                call = await _call(client, random, random.choice(keys), started)
                if call is not None:
                    made.append(call)

    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(one(number))
    return made


async def _call(client: KvClient, random: Random, key: str, number: int) -> Call | None:
    verb = random.choice(["put", "get", "get", "cas"])
    name = key.encode()
    called_at = time.monotonic_ns() // 1000
    arguments: tuple[int, ...] = ()
    answer: int | bool | None = None
    work: Awaitable[object]
    if verb == "put":
        arguments = (number,)
        work = client.put(name, b"%d" % number, deadline_s=60.0)
    elif verb == "cas":
        seen = await _seen(client, name)
        if seen is None:
            return None
        called_at = time.monotonic_ns() // 1000
        arguments = (seen, number)
        expected = b"%d" % seen if seen else None
        work = client.swap(name, expected, b"%d" % number, deadline_s=60.0)
    else:
        work = client.get(name, deadline_s=60.0)
    try:
        done = await work
    except Unavailable:
        return None
    except OutcomeUnknown:
        return Call(number, key, verb, arguments, called_at, None, None)
    if verb == "cas":
        answer = bool(done)
    elif verb == "get":
        answer = int(done.value) if done is not None else 0  # type: ignore[attr-defined]
    return Call(number, key, verb, arguments, called_at, time.monotonic_ns() // 1000, answer)


async def _seen(client: KvClient, name: bytes) -> int | None:
    """What an eventual read says: a good guess to swap from, and no part of the history."""
    try:
        current = await client.get(name, eventual=True, deadline_s=60.0)
    except Unavailable:
        return None
    return int(current.value) if current is not None else 0
