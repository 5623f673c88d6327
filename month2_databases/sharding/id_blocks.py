"""Ids in blocks: one database hands out ranges, every process counts within its own.

Beside routed UUIDs (scalelab.ids), which need nobody and carry their slot, there are short numbers
that people read aloud. One sequence for all shards would be asked for every row; asked for a block
of a thousand it is asked a thousand times less, and when it is away, ids last until the block ends.

| ids            | coordination   | order               | size | routes by itself |
|---|---|---|---|---|
| routed UUIDv7  | none           | by time, to the ms  | 16 B | yes, slot inside |
| blocks         | one in `size`  | within a process    | 8 B  | no               |
| interleaved    | at set-up      | within a shard      | 8 B  | yes, id mod n, for ever |

Guarantees
    G1  No number is given twice, over all processes and crashes.
    G2  Numbers may be left out: a process that ends takes the rest of its block with it.
"""

from __future__ import annotations

import asyncio

from scalelab.clients.postgres import Database
from scalelab.errors import InvalidInput

SCHEMA = """
CREATE TABLE IF NOT EXISTS id_block (
    name text PRIMARY KEY,
    next_id bigint NOT NULL
)
"""


class IdBlocks:
    """Numbers from 1 for one `name`. size: ids a block, >= 1. The database has SCHEMA."""

    def __init__(self, database: Database, name: str, *, size: int = 1000) -> None:
        if size < 1:
            raise InvalidInput(f"a block of {size} ids is empty", field="size")
        self._database = database
        self._name = name
        self._size = size
        self._next = 0
        self._end = 0
        self._refilling = asyncio.Lock()

    async def take(self) -> int:
        """The next number. Waits for the database only when a block is used up.

        Raises what Database raises; nothing is lost by asking again but, at worst, one block.
        """
        while self._next >= self._end:
            async with self._refilling:  # one caller asks, the others find the block
                if self._next >= self._end:
                    await self._refill()
        taken = self._next
        self._next += 1
        return taken

    async def _refill(self) -> None:
        async with self._database.autocommit() as conn:
            cursor = await conn.execute(
                "INSERT INTO id_block AS b (name, next_id) VALUES (%(name)s, 1 + %(size)s)"
                " ON CONFLICT (name) DO UPDATE SET next_id = b.next_id + %(size)s"
                " RETURNING next_id",
                {"name": self._name, "size": self._size},
            )
            row = await cursor.fetchone()
        if row is not None:
            self._end = int(row[0])
            self._next = self._end - self._size


def interleaved(shard: int, shards: int) -> tuple[int, int]:
    """START and INCREMENT for shard `shard` (0..shards-1): its sequence gives ids = shard mod n.

    `CREATE SEQUENCE ... START a INCREMENT b`; an id then says its shard, for ever, so that a
    shard can never be added. Shown because it is often met; prefer the other two.
    """
    if not 0 <= shard < shards:
        raise InvalidInput(f"shard {shard} is outside 0..{shards - 1}", field="shard")
    return shard or shards, shards
