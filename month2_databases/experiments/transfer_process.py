"""A process that moves money between two shards and stops at a named step, to be killed there.

    python -m month2_databases.experiments.transfer_process MODE STEP

reads one JSON object from standard input: {"from": DSN, "to": DSN, "register": DSN, "account",
"peer", "amount"}. MODE: `two_phase` or `two_commits` (one after the other, nothing between them).
Prints the name of every step that is over, waits for ever after STEP, and prints `done` at the end.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from month2_databases.sharding import DecisionRegister, TwoPhase
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock

TAKE = "UPDATE account SET balance = balance - %s WHERE id = %s"
GIVE = "UPDATE account SET balance = balance + %s WHERE id = %s"


def main() -> None:
    """Run one transfer as told."""
    mode, stop_at = sys.argv[1:3]
    asyncio.run(_transfer(mode, stop_at, json.loads(sys.stdin.readline())))


async def _transfer(mode: str, stop_at: str, told: dict[str, Any]) -> None:
    async def checkpoint(step: str) -> None:
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()
        if step == stop_at:
            await asyncio.Event().wait()

    async with (
        Database(PostgresSettings(told["from"]), name="from") as source,
        Database(PostgresSettings(told["to"]), name="to") as target,
        Database(PostgresSettings(told["register"]), name="register") as decisions,
    ):
        amount = told["amount"]
        if mode == "two_commits":
            async with source.transaction() as conn:
                await conn.execute(TAKE, (amount, told["account"]))
            await checkpoint("taken")
            async with target.transaction() as conn:
                await conn.execute(GIVE, (amount, told["peer"]))
        else:
            shards = {"from": source, "to": target}
            register = DecisionRegister(decisions)
            two_phase = TwoPhase(shards, register, SystemClock(), checkpoint=checkpoint)
            async with two_phase.transaction(["from", "to"]) as work:
                await work["from"].execute(TAKE, (amount, told["account"]))
                await work["to"].execute(GIVE, (amount, told["peer"]))
        await checkpoint("done")


if __name__ == "__main__":
    main()
