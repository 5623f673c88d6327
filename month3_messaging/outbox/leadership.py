"""Leadership: of several relays of a database one is active, by a session advisory lock.

The lock saves duplicates; order and completeness do not rest on it (relay.py, R2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection

from month3_messaging.outbox.metrics import RelayMetrics
from scalelab.clients.postgres import Database
from scalelab.errors import OutcomeUnknown, Unavailable
from scalelab.telemetry import Log

_LOCK_CLASS = 0x0B0D
_LOCK_ID = 1

OnConnection = Callable[[AsyncConnection[Any]], Awaitable[None]]


async def _nothing(_conn: AsyncConnection[Any]) -> None:
    return


async def lead(
    database: Database,
    serve: OnConnection,
    *,
    stand_by: OnConnection = _nothing,
    standby_s: float,
    sql_timeout_s: float,
    metrics: RelayMetrics,
    log: Log,
) -> None:
    """Call `serve` while this is the active relay and `stand_by` while it is not, until cancelled.

    Both get a connection of their own, in autocommit mode; `serve` ends when that breaks. Waits
    for the database when it is away. Any other error of `serve` is raised.
    """
    leading = metrics.leading.labels(database.name)
    while True:
        try:
            async with database.dedicated() as conn:
                if await _is_ours(conn, sql_timeout_s):
                    leading.set(1)
                    log.info("outbox_relay_active", database=database.name)
                    await serve(conn)
                else:
                    await stand_by(conn)
        except (Unavailable, OutcomeUnknown, TimeoutError) as error:
            log.warning("outbox_database_lost", database=database.name, error=str(error))
        finally:
            leading.set(0)
        await asyncio.sleep(standby_s)


async def _is_ours(conn: AsyncConnection[Any], timeout_s: float) -> bool:
    async with asyncio.timeout(timeout_s):
        cursor = await conn.execute("SELECT pg_try_advisory_lock(%s, %s)", (_LOCK_CLASS, _LOCK_ID))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return False
        # A lost mark only makes a duplicate, so it need not wait for a replica.
        await conn.execute("SET synchronous_commit TO local")
        return True
