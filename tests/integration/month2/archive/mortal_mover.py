"""Processes that move cold orders and kill themselves (SIGKILL) at a named step.

    python mortal_mover.py DSN ENDPOINT BUCKET NOW        keys: S3_ACCESS and S3_SECRET

A step a line on standard input; for each a fresh process, forked before anything was opened. How
it ended stands on standard output: -9 for the kill, 0 for a run that came to its end.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime

from month2_databases.archive import ColdPolicy, Mover
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.clock import ManualClock
from tests.integration.month2.mortal import die_at, fork_for_each_line


async def move(dsn: str, endpoint: str, bucket: str, now: str, last: str) -> None:
    keys = os.environ["S3_ACCESS"], os.environ["S3_SECRET"]
    async with (
        Database(PostgresSettings(dsn), name="orders") as database,
        ObjectStore(S3Settings(endpoint, *keys, read_timeout_s=30.0)) as store,
    ):
        clock = ManualClock(start=datetime.fromisoformat(now))
        policy = ColdPolicy(hot_months=2, batch_rows=40)
        await Mover(database, store, bucket, policy, clock=clock, at=die_at(last)).run()


def main(dsn: str, endpoint: str, bucket: str, now: str) -> None:
    fork_for_each_line(lambda step: move(dsn, endpoint, bucket, now, step))


if __name__ == "__main__":
    main(*sys.argv[1:])
