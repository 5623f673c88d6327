"""PostgreSQL's own B-tree pages, read through its contrib module pageinspect.

What stands there is a B+ tree like ours: a first page that names the root, branches, leaves linked
to the right (and to the left, for reading backwards), and a high key on every page but the last of
a level, which says what it may hold at most (Lehman and Yao 1981).

pageinspect wants a superuser and the contrib package. `has_pageinspect` says whether it is there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from psycopg import AsyncConnection

from scalelab.errors import NotFound

_BATCH_PAGES = 5_000


@dataclass(frozen=True, slots=True)
class IndexShape:
    """levels: pages a level, from the root. entries: of the leaves, high keys not counted.

    fan_out: children of the average branch page, 0.0 for a lone leaf. fill: used share of a leaf.
    """

    levels: tuple[int, ...]
    entries: int
    fan_out: float
    fill: float

    @property
    def height(self) -> int:
        """Levels; a lookup reads so many pages of the index."""
        return len(self.levels)


async def has_pageinspect(conn: AsyncConnection) -> bool:
    """Whether the server has the module; it is created in this database if so."""
    cursor = await conn.execute(
        "SELECT FROM pg_available_extensions WHERE name = 'pageinspect'", prepare=False
    )
    if await cursor.fetchone() is None:
        return False
    await conn.execute("CREATE EXTENSION IF NOT EXISTS pageinspect")
    return True


async def index_shape(conn: AsyncConnection, index: str) -> IndexShape:
    """Counts of a whole B-tree index. Reads all its pages. Raises NotFound for an empty one."""
    cursor = await conn.execute("SELECT pg_relation_size(%s) / 8192", (index,))
    row = await cursor.fetchone()
    pages = int(row[0]) if row else 0
    by_level: Counter[int] = Counter()
    live: Counter[int] = Counter()
    used = room = 0
    for first in range(1, pages, _BATCH_PAGES):
        last = min(first + _BATCH_PAGES, pages) - 1
        cursor = await conn.execute(
            "SELECT s.btpo_level, s.type::text, s.live_items, s.btpo_next, s.page_size, s.free_size"
            " FROM generate_series(%s::int, %s::int) AS n, bt_page_stats(%s, n) AS s",
            (first, last, index),
        )
        async for level, kind, items, following, page_size, free in cursor:
            if kind not in ("l", "r", "i"):
                continue  # deleted, or half dead
            by_level[level] += 1
            live[level] += items - (1 if following else 0)
            if level == 0:
                used, room = used + page_size - free, room + page_size
    if not by_level:
        raise NotFound(f"the index {index} has no pages")
    branches = sum(count for level, count in by_level.items() if level)
    children = sum(count for level, count in live.items() if level)
    return IndexShape(
        levels=tuple(by_level[level] for level in sorted(by_level, reverse=True)),
        entries=live[0],
        fan_out=children / branches if branches else 0.0,
        fill=used / room,
    )
