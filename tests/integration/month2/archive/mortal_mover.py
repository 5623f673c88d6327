"""Processes that move cold orders and kill themselves (SIGKILL) at a named step.

    python mortal_mover.py DSN ENDPOINT BUCKET NOW        keys: S3_ACCESS and S3_SECRET

A step a line on standard input; for each a fresh process, forked before anything was opened. How
it ended stands on standard output: -9 for the kill, 0 for a run that came to its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from datetime import datetime

from month2_databases.archive import ColdPolicy, Mover
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clients.s3 import ObjectStore, S3Settings
from scalelab.clock import ManualClock


async def move(dsn: str, endpoint: str, bucket: str, now: str, last: str) -> None:
    def at(step: str) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    keys = os.environ["S3_ACCESS"], os.environ["S3_SECRET"]
    async with (
        Database(PostgresSettings(dsn), name="orders") as database,
        ObjectStore(S3Settings(endpoint, *keys, read_timeout_s=30.0)) as store,
    ):
        clock = ManualClock(start=datetime.fromisoformat(now))
        policy = ColdPolicy(hot_months=2, batch_rows=40)
        await Mover(database, store, bucket, policy, clock=clock, at=at).run()


def main(dsn: str, endpoint: str, bucket: str, now: str) -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(move(dsn, endpoint, bucket, now, line.strip()))
            except BaseException:  # noqa: BLE001 - told, and this process ends
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
