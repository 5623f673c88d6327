"""Processes that carry a move on and kill themselves (SIGKILL) at a named point.

    python mortal_mover.py MAPS_DSN A_DSN B_DSN NAME

A point a line on standard input; for each a fresh process, forked before anything was opened. How
it ended stands on standard output: -9 for the kill, 0 for a move that came to its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback

from month2_databases.resharding import MovedTable, Mover, MoveSettings, ShardServer
from month2_databases.sharding import MapStore
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock


async def carry_on(maps: str, a: str, b: str, name: str, point: str) -> None:
    def passed(here: str) -> None:
        if here == point:
            os.kill(os.getpid(), signal.SIGKILL)

    async with Database(PostgresSettings(maps), name="maps") as database:
        mover = Mover(
            MapStore(database),
            {"a": ShardServer("a", a), "b": ShardServer("b", b)},
            (MovedTable("account"), MovedTable("entry")),
            clock=SystemClock(),
            settings=MoveSettings(grace_s=0.0, delete_batch=50),
            passed=passed,
        )
        await mover.run(name)


def main(maps: str, a: str, b: str, name: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(carry_on(maps, a, b, name, line.strip()))
            except BaseException:  # noqa: BLE001 - told, and this process ends
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
