"""Processes that carry a move on and kill themselves (SIGKILL) at a named point.

    python mortal_mover.py MAPS_DSN A_DSN B_DSN NAME

A point a line on standard input, `abort POINT` for a move that is taken back; for each a fresh
process, forked before anything was opened. How it ended stands on standard output: -9 for the kill,
0 for a move that came to its end.
"""

from __future__ import annotations

import sys

from month2_databases.resharding import MovedTable, Mover, MoveSettings, ShardServer
from month2_databases.sharding import MapStore
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from tests.integration.month2.mortal import die_at, fork_for_each_line


async def carry_on(maps: str, a: str, b: str, name: str, line: str) -> None:
    is_abort = line.startswith("abort ")
    point = line.removeprefix("abort ")
    async with Database(PostgresSettings(maps), name="maps") as database:
        mover = Mover(
            MapStore(database),
            {"a": ShardServer("a", a), "b": ShardServer("b", b)},
            (MovedTable("account"), MovedTable("entry")),
            clock=SystemClock(),
            settings=MoveSettings(grace_s=0.0, delete_batch=50),
            passed=die_at(point),
        )
        await (mover.abort(name) if is_abort else mover.run(name))


def main(maps: str, a: str, b: str, name: str) -> None:
    fork_for_each_line(lambda line: carry_on(maps, a, b, name, line))


if __name__ == "__main__":
    main(*sys.argv[1:])
