"""A process that moves money between two shards and stops at a named step, to be killed there.

    python -m month2_databases.experiments.transfer_process WAY STEP

reads one JSON object from standard input: {"source": DSN, "target": DSN, "register": DSN,
"account": id, "amount": n}. WAY: `two_commits`, `two_phase` or `saga`. Prints the name of every
step that is over, waits for ever after STEP, and prints `done` at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from month2_databases.experiments import transfers
from scalelab.clients.postgres import Database, PostgresSettings


def main() -> None:
    """Run one transfer as told."""
    way, stop_at = sys.argv[1:3]
    asyncio.run(_transfer(way, stop_at, json.loads(sys.stdin.readline())))


async def killed_at(step: str, way: str, told: dict[str, Any], *, within_s: float = 60.0) -> None:
    """Start such a process, let it come to `step`, and kill it with -9."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, way, step),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        async with asyncio.timeout(within_s):
            while (line := await process.stdout.readline()).decode().strip() != step:
                if not line:
                    raise RuntimeError(f"the transfer ended before it came to {step!r}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _transfer(way: str, stop_at: str, told: dict[str, Any]) -> None:
    async def checkpoint(step: str) -> None:
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()
        if step == stop_at:
            await asyncio.Event().wait()

    account, amount = told["account"], told["amount"]
    async with (
        _database("source", told) as source,
        _database("target", told) as target,
        _database("register", told) as register,
    ):
        match way:
            case "two_commits":
                await transfers.two_commits(source, target, account, amount, checkpoint)
            case "two_phase":
                await transfers.two_phase(source, target, register, account, amount, checkpoint)
            case _:
                await transfers.saga(source, target, account, amount, checkpoint)
        await checkpoint("done")


def _database(name: str, told: dict[str, Any]) -> Database:
    settings = PostgresSettings(told[name], acquire_timeout_s=20.0, connect_timeout_s=20.0)
    return Database(settings, name=name)


if __name__ == "__main__":
    main()
