"""A process that accepts writes behind a SQLite table, and tells what it has accepted.

Arguments: the table's file, the Redis URL, how many keys to write at once and how many more to
accept. Then it waits for a line on standard input, and stops in an orderly way.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from month1_caching_gateway.caching import (
    CacheAside,
    Codec,
    Policy,
    RedisStore,
    Versioned,
    WriteBehind,
    WriteBehindPolicy,
)
from scalelab.clients import redis as redis_client
from scalelab.clock import SystemClock

NEVER_S = 3600.0


class Table:
    """Rows in a file, with versions; every commit is whole and survives the process."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS row (key TEXT PRIMARY KEY, value TEXT, version INTEGER)"
        )

    def write(self, values: Mapping[str, str]) -> dict[str, int]:
        with self._connection:
            self._connection.executemany(
                "INSERT INTO row VALUES (?, ?, 1) ON CONFLICT (key) DO UPDATE "
                "SET value = excluded.value, version = version + 1",
                list(values.items()),
            )
        return {key: row.version for key, row in self.read(list(values)).items()}

    def read(self, keys: Sequence[str]) -> dict[str, Versioned[str]]:
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, value, version FROM row WHERE key IN ({marks})"
        return {
            key: Versioned(value, version)
            for key, value, version in self._connection.execute(query, list(keys))
        }

    def count(self) -> int:
        return self._connection.execute("SELECT count(*) FROM row").fetchone()[0]

    def close(self) -> None:
        self._connection.close()


async def main(file: Path, url: str, written: int, accepted: int) -> None:
    table = Table(file)
    client = redis_client.connect(url, timeout_s=10.0, connect_timeout_s=30.0)

    async def read(keys: Sequence[str]) -> dict[str, Versioned[str]]:
        return table.read(keys)

    async def write(values: Mapping[str, str]) -> dict[str, int]:
        return table.write(values)

    cache: CacheAside[str] = CacheAside(
        read,
        RedisStore(client, namespace="behind", clock=SystemClock()),
        Codec(str.encode, bytes.decode),
        policy=Policy(),
        random=Random(1),
    )
    policy = WriteBehindPolicy(flush_every_s=NEVER_S)
    async with cache, WriteBehind(cache, write, policy=policy, random=Random(1)) as behind:
        for number in range(written):
            behind.put(f"written-{number}", "x")
        await behind.flush()
        for number in range(accepted):
            behind.put(f"accepted-{number}", "x")
        sys.stdout.write(f"{written + accepted} accepted\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
    await client.aclose()
    table.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
