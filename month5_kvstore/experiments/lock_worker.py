"""A process that takes a lock, reads a number, and writes one more, each step when it is told to.

    python -m month5_kvstore.experiments.lock_worker BED

BED is JSON, see `Bed`. On standard input a step a line; each is answered by one line of JSON:

    take     waits for the lock, reads the number            {"token": t, "value": v}
    write    writes v + 1, looking at nothing before         {"written": bool}
    renew    renews the hold                                 {"lost": bool}
    release  gives the lock back                             {"released": true}

Between two steps it stands in a read, and may be stopped there for as long as one likes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from random import Random

from month5_kvstore.locks import FencedTable, Hold, LockLost, Locks, StaleToken, open_locks
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import Retryable

_PAUSE_S = 0.02
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Bed:
    """address: of the lock service. dsn: of the numbers. name: of the lock and of the number.

    is_fenced: whether the number looks at tokens.
    """

    address: str
    dsn: str
    name: str
    holder: str
    ttl_s: float
    is_fenced: bool


class Worker:
    """One holder, step by step."""

    def __init__(self, bed: Bed, locks: Locks, table: FencedTable) -> None:
        self._bed = bed
        self._locks = locks
        self._table = table
        self._hold: Hold | None = None
        self._value = 0

    async def step(self, name: str) -> dict[str, object]:
        """Carry out one."""
        if name == "take":
            return await self._take()
        hold = self._hold
        if hold is None:
            raise ValueError("take the lock first")
        if name == "write":
            return {"written": await self._write(hold)}
        if name == "renew":
            return {"lost": await self._is_lost(hold)}
        await hold.release()
        self._hold = None
        return {"released": True}

    async def _take(self) -> dict[str, object]:
        bed = self._bed
        while self._hold is None:
            try:
                self._hold = await self._locks.acquire(bed.name, bed.holder, ttl_s=bed.ttl_s)
            except Retryable:
                self._hold = None
            if self._hold is None:
                await asyncio.sleep(_PAUSE_S)
        token = self._hold.token
        if bed.is_fenced:
            self._value = await self._table.read(bed.name, token)
        else:
            self._value = (await self._table.peek(bed.name)).value
        return {"token": token, "value": self._value}

    async def _write(self, hold: Hold) -> bool:
        bed = self._bed
        if not bed.is_fenced:
            await self._table.write_unfenced(bed.name, self._value + 1)
            return True
        try:
            await self._table.write(bed.name, self._value + 1, hold.token)
        except StaleToken:
            return False
        return True

    async def _is_lost(self, hold: Hold) -> bool:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    await hold.renew()
                except LockLost:
                    return True
                except Retryable:
                    await asyncio.sleep(_PAUSE_S)
                else:
                    return False


async def main(bed: Bed) -> None:
    """Answer steps until standard input ends."""
    random = Random(f"{bed.holder} {os.getpid()}")
    settings = PostgresSettings(bed.dsn, pool_max=1, acquire_timeout_s=30.0)
    async with (
        open_locks(bed.address, clock=SystemClock(), random=random) as locks,
        Database(settings, name="fenced") as database,
    ):
        worker = Worker(bed, locks, FencedTable(database))
        for line in sys.stdin:  # stands still on purpose: so does a process that is stopped
            answer = await worker.step(line.strip())
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Bed(**json.loads(sys.argv[1]))))
