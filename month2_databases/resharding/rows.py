"""Rows of the moving slots on one shard: how their tables look, what they add up to, their end.

A table without a primary key cannot be followed: publishing it would make the application's own
updates fail. Such a table is refused before anything is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from month2_databases.resharding.servers import ShardServer, session
from month2_databases.resharding.tables import Layout, MovedTable
from month2_databases.sharding import refuse_owned
from scalelab.errors import InvalidInput

_LAYOUT = """
SELECT a.attname, coalesce(a.attnum = ANY(i.indkey), false), c.relreplident::text
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.oid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""


async def layouts_of(server: ShardServer, tables: Sequence[MovedTable]) -> list[Layout]:
    """How the tables look. Raises InvalidInput for one that cannot be moved, and says why."""
    found: list[Layout] = []
    async with session(server) as conn:
        for table in tables:
            rows = await (await conn.execute(_LAYOUT, (table.name,))).fetchall()
            columns = tuple(row[0] for row in rows)
            keys = tuple(row[0] for row in rows if row[1])
            if not columns:
                raise _unfit(f"{server.name} has no table {table.name}", "table_missing")
            if table.slot not in columns:
                raise _unfit(f"{table.name} has no column {table.slot}", "table_without_slot")
            if not keys or rows[0][2] not in ("d", "f"):
                raise _unfit(
                    f"{table.name} has no primary key to follow its rows by", "table_without_key"
                )
            found.append(Layout(table, columns, keys))
    return found


def check_same(source: Sequence[Layout], target: Sequence[Layout]) -> None:
    """Raises InvalidInput code `tables_differ`: bring both shards to the same schema first."""
    for ours, theirs in zip(source, target, strict=True):
        if set(ours.columns) != set(theirs.columns) or set(ours.keys) != set(theirs.keys):
            raise _unfit(f"{ours.table.name} differs between the two shards", "tables_differ")


async def fingerprints(
    server: ShardServer, layouts: Sequence[Layout], slots: Collection[int]
) -> dict[str, tuple[int, str]]:
    """By table: how many rows the slots have here, and the sum of their hashes."""
    found: dict[str, tuple[int, str]] = {}
    async with session(server) as conn:
        for layout in layouts:
            row = await (await conn.execute(layout.fingerprint(), (list(slots),))).fetchone()
            found[layout.table.name] = (0, "0") if row is None else (int(row[0]), str(row[1]))
    return found


def differing(
    source: dict[str, tuple[int, str]], target: dict[str, tuple[int, str]]
) -> tuple[str, ...]:
    """Tables whose rows are not the same, with both counts."""
    return tuple(
        f"{table} ({rows} rows, {target[table][0]} copied)"
        for table, (rows, sums) in source.items()
        if target[table] != (rows, sums)
    )


async def delete_rows(
    server: ShardServer,
    layouts: Sequence[Layout],
    slots: Collection[int],
    *,
    batch: int,
    pause_s: float,
) -> int:
    """Remove the slots' rows in batches, children first, only while the shard does not own them.

    The check and the deletion are one transaction under the slots' locks: whoever calls this late,
    after the slots have come back, removes nothing and gets Conflict code `slot_owned`.
    """
    removed = 0
    async with session(server) as conn:
        for layout in reversed(layouts):
            while True:
                async with conn.transaction():
                    await refuse_owned(conn, slots)
                    await conn.execute("SET LOCAL session_replication_role = replica")
                    cursor = await conn.execute(layout.delete_some(), (list(slots), batch))
                removed += cursor.rowcount
                if cursor.rowcount < batch:
                    break
                await asyncio.sleep(pause_s)
    return removed


def _unfit(message: str, code: str) -> InvalidInput:
    return InvalidInput(message, field="tables", code=code)
