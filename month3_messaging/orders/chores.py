"""What has to be done for orders again and again, on each database: deadlines and forgetting.

Tasks that never end by themselves; a database that is away is tried again and said in the log.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from month3_messaging import inbox
from month3_messaging.orders.effects import SagaEffects
from scalelab.clients.postgres import Database
from scalelab.clock import Clock
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log
from scalelab.web.idempotency_postgres import purge


async def sweep_forever(
    database: Database, effects: SagaEffects, *, every_s: float, log: Log
) -> None:
    """Cancel what waited too long for its payment."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await effects.sweep(database.transaction)
        except ScalelabError as error:
            _report(log, "sweep_failed", database, error)


async def clean_forever(
    database: Database,
    clock: Clock,
    *,
    every_s: float,
    inbox_keep_s: float,
    keys_keep_s: float,
    log: Log,
) -> None:
    """Forget old inbox rows and idempotency keys, a batch at a time.

    inbox_keep_s: longer than the topics keep events. keys_keep_s: longer than a client retries.
    """
    while True:
        await asyncio.sleep(every_s)
        now = clock.now()
        try:
            async with database.transaction() as conn:
                await inbox.purge(conn, before=now - timedelta(seconds=inbox_keep_s))
            async with database.transaction() as conn:
                await purge(conn, now - timedelta(seconds=keys_keep_s))
        except ScalelabError as error:
            _report(log, "clean_up_failed", database, error)


def _report(log: Log, event: str, database: Database, error: ScalelabError) -> None:
    log.warning(event, database=database.name, code=error.stable_code, error=str(error))
