"""Wait until some connection of a database waits for a lock: a race at a named point."""

from __future__ import annotations

import asyncio

from scalelab.clients.postgres import Database


async def someone_waits(database: Database) -> None:
    """Return once a session of this database is blocked by another one's lock."""
    async with asyncio.timeout(30), database.autocommit() as conn:
        while True:
            cursor = await conn.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            row = await cursor.fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(0.01)
