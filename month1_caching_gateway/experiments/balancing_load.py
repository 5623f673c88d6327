"""The load of the experiment load-balancing: an open loop of keep-alive requests, one key each.

A request is sent when it is due, whatever became of the others: who waits behind a slow backend
does not slow the others' arrival. When the whole machine stood still for a moment, the plan is put
off by that much: a burst of all that was missed would be another load than the one asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

_OVER_S = 30.0
_LATE_S = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """took_ms: sorted, of all requests. by: who answered how many. failed: not a 200."""

    took_ms: Sequence[float]
    by: Counter[str]
    failed: int

    def quantile_ms(self, share: float) -> float:
        """The latency that `share` of the requests did not exceed."""
        return self.took_ms[int(share * (len(self.took_ms) - 1))]


class _Connections:
    """As many as are needed at once; the one used last is used next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, target: str) -> tuple[int, str]:
        """Status and body."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
        except BaseException:
            writer.transport.abort()
            raise
        if "connection: close" in head:
            writer.transport.abort()
        else:
            self._idle.append((reader, writer))
        return int(head.split(" ", 2)[1]), body.decode()

    def close(self) -> None:
        for _, writer in self._idle:
            writer.transport.abort()


async def ask(port: int, target: str) -> str:
    """One request on a connection of its own."""
    connections = _Connections(port)
    try:
        async with asyncio.timeout(_OVER_S):
            return (await connections.get(target))[1]
    finally:
        connections.close()


async def open_loop(
    port: int, *, rate_per_s: float, seconds: float, keys: int, random: Random
) -> Outcome:
    """Requests for `/k/0` … `/k/keys-1`, due at random instants, `rate_per_s` on average."""
    loop = asyncio.get_running_loop()
    connections = _Connections(port)
    took_ms: list[float] = []
    by: Counter[str] = Counter()
    failed = 0

    async def one(target: str) -> None:
        nonlocal failed
        begun_s = loop.time()
        status, body = await connections.get(target)
        took_ms.append((loop.time() - begun_s) * 1e3)
        by[body] += 1
        failed += status != 200

    due_s = loop.time()
    left_s = seconds
    try:
        async with asyncio.timeout(2 * seconds + _OVER_S), asyncio.TaskGroup() as group:
            while (gap_s := random.expovariate(rate_per_s)) < left_s:
                left_s -= gap_s
                due_s += gap_s
                await asyncio.sleep(due_s - loop.time())
                if loop.time() - due_s > _LATE_S:
                    due_s = loop.time()
                group.create_task(one(f"/k/{random.randrange(keys)}"))
    finally:
        connections.close()
    return Outcome(sorted(took_ms), by, failed)
