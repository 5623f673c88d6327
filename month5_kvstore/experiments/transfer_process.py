"""A process that moves money between two keys and stops at a named point, to be killed there.

    python -m month5_kvstore.experiments.transfer_process WAY POINT

reads one JSON object from standard input: {"urls": {node: URL}, "source": key, "target": key,
"amount": n, "servers": {name: DSN}}. WAY: `two_writes`, `two_phase`, `saga`, or one of the last
two with `_postgres`, which needs the servers `source` and `target`. Prints each point it comes to,
waits for ever after POINT, and prints `done` at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from month5_kvstore.client import KvClient
from month5_kvstore.experiments import transfers
from month5_kvstore.experiments.postgres_transfers import PostgresTransfers
from month5_kvstore.transactions import KvTransactions
from scalelab.clock import SystemClock

POINTS = {
    "two_writes": ("taken",),
    "two_phase": ("prepare 1", "prepare 2", "record 1", "finish 1", "finish 2"),
    "saga": ("begun", "do_0", "doing_1", "do_1"),
    "two_phase_postgres": ("prepare 1", "prepare 2", "record 1", "finish 1", "finish 2"),
    "saga_postgres": ("begun", "do_0", "doing_1", "do_1"),
}
"""Of each way, in the order in which a transfer comes to them."""


def main() -> None:
    """Run one transfer as told."""
    way, point = sys.argv[1:3]
    asyncio.run(_transfer(way, point, json.loads(sys.stdin.readline())))


@asynccontextmanager
async def victim(way: str, point: str) -> AsyncGenerator[Process]:
    """Such a process, started and not yet told what to do; killed with -9 at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, way, point),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def kill_at(
    process: Process, point: str, told: dict[str, Any], *, within_s: float = 90.0
) -> None:
    """Tell a victim what to do, let it come to its point, and kill it with -9."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(json.dumps(told).encode() + b"\n")
    async with asyncio.timeout(within_s):
        while (line := await process.stdout.readline()).decode().strip() != point:
            if not line:
                raise RuntimeError(f"the transfer ended before it came to {point!r}")
    process.kill()
    await process.wait()


async def _transfer(way: str, stop_at: str, told: dict[str, Any]) -> None:
    async def checkpoint(point: str) -> None:
        sys.stdout.write(f"{point}\n")
        sys.stdout.flush()
        if point == stop_at:
            await asyncio.Event().wait()

    urls = {int(node): url for node, url in told["urls"].items()}
    source, target, amount = told["source"].encode(), told["target"].encode(), told["amount"]
    async with KvClient(urls, clock=SystemClock(), random=Random()) as client:
        match way:
            case "two_writes":
                await transfers.two_writes(client, source, target, amount, checkpoint)
            case "two_phase":
                driver = KvTransactions(
                    client, clock=SystemClock(), random=Random(), checkpoint=checkpoint
                )
                await transfers.two_phase(driver, source, target, amount)
            case "saga":
                await transfers.saga(client, source, target, amount, checkpoint)
            case _:
                postgres = PostgresTransfers(told["servers"], client, checkpoint)
                if way == "saga_postgres":
                    await postgres.saga(amount)
                else:
                    await postgres.two_phase(amount)
    await checkpoint("done")


if __name__ == "__main__":
    main()
