"""Load on a gateway: keep-alive HTTP/1.1 connections that check every answer.

Two shapes. A closed loop sends the next request when the answer is there: it finds the cost per
request. An open loop sends when a request is due, whatever became of the others: its latencies
begin at the due instant, so a server that stalls is billed for everybody who waited.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

_OVER_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send what; every answer must be a 200 that ends with `body`."""

    port: int
    request: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """One request at a time; tells whoever holds it when the answer is complete."""

    def __init__(self, target: Target, on_answer: Callable[[Connection], None]) -> None:
        self._target = target
        self._on_answer = on_answer
        self._inbox = b""
        self.due_s = 0.0
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, due_s: float) -> None:
        """Send the request that was due then."""
        self.due_s = due_s
        self._transport.write(self._target.request)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        if not self._inbox.endswith(self._target.body):
            return
        if not self._inbox.startswith(b"HTTP/1.1 200"):
            self._fail(f"a wrong answer: {self._inbox[:200]!r}")
            return
        self._inbox = b""
        self._on_answer(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the server closed the connection")

    def close(self) -> None:
        """Stop caring, then close."""
        if not self.failure.done():
            self.failure.set_result(None)
        self._transport.close()

    def _fail(self, why: str) -> None:
        if not self.failure.done():
            self.failure.set_exception(RuntimeError(why))


async def closed_loop(target: Target, *, connections: int, seconds: float) -> int:
    """How many answers came within `seconds`, and within the last requests' time.

    Raises RuntimeError for a wrong answer or a lost connection: that is no measurement.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    end_s = time.perf_counter() + seconds
    answers, left = 0, connections

    def next_one(connection: Connection) -> None:
        nonlocal answers, left
        answers += 1
        if time.perf_counter() < end_s:
            connection.send(0.0)
            return
        left -= 1
        if not left:
            done.set_result(None)

    opened = await _open(target, connections, next_one)
    for connection in opened:
        connection.send(0.0)
    await _finish(done, opened, seconds)
    return answers


async def open_loop(
    target: Target,
    *,
    rate_per_s: float,
    seconds: float,
    generator: random.Random,
    connections: int = 64,
) -> list[float]:
    """Latencies in ms, sorted, of requests due at random instants, `rate_per_s` on average.

    A request that finds every connection taken waits, and its wait counts.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    took_ms: list[float] = []
    waiting: deque[float] = deque()
    plan = _instants(rate_per_s, seconds, generator)
    total = len(plan)

    def answered(connection: Connection) -> None:
        took_ms.append((loop.time() - connection.due_s) * 1e3)
        if waiting:
            connection.send(waiting.popleft())
        else:
            idle.append(connection)
        if len(took_ms) == total:
            done.set_result(None)

    def due(due_s: float) -> None:
        if idle:
            idle.pop().send(due_s)
        else:
            waiting.append(due_s)

    idle = await _open(target, connections, answered)
    opened = list(idle)
    begin_s = loop.time() + 0.05
    for instant in plan:
        loop.call_at(begin_s + instant, due, begin_s + instant)
    await _finish(done, opened, seconds)
    return sorted(took_ms)


def _instants(rate_per_s: float, seconds: float, generator: random.Random) -> list[float]:
    """Arrivals of a Poisson process, at least one."""
    instants = [generator.expovariate(rate_per_s)]
    while instants[-1] < seconds:
        instants.append(instants[-1] + generator.expovariate(rate_per_s))
    return instants


async def _open(
    target: Target, count: int, on_answer: Callable[[Connection], None]
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    async with asyncio.timeout(_OVER_S):
        for _ in range(count):
            _, connection = await loop.create_connection(
                lambda: Connection(target, on_answer), "127.0.0.1", target.port
            )
            opened.append(connection)
    return opened


async def _finish(done: asyncio.Future[None], opened: list[Connection], seconds: float) -> None:
    """Until done; the first connection that fails ends it all."""
    failures = [connection.failure for connection in opened]
    try:
        async with asyncio.timeout(seconds + _OVER_S):
            await asyncio.wait([done, *failures], return_when=asyncio.FIRST_COMPLETED)
        for failure in failures:
            if failure.done():
                failure.result()
    finally:
        for connection in opened:
            connection.close()
