"""How high is a B+ tree, and how full are its pages? Ours beside theory and PostgreSQL's own.

Pages read by a lookup are counted, not timed: our page file keeps nothing in memory here. Keys come
sorted in bulk, one by one in ascending order, and one by one in random order; PostgreSQL builds its
index on as many bigints, and its pages are read where its contrib module is there.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from psycopg import AsyncConnection

from month2_databases.indexes import (
    BPlusTree,
    IndexShape,
    PageFile,
    Shape,
    bulk_load,
    has_pageinspect,
    index_shape,
    levels_for,
    shape,
    violations,
)
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

PAGE_SIZE = 512
_LOOKUPS = 50
_PG_LEAF, _PG_BRANCH = 406, 284
"""Bigints on a packed page of 8 KiB; children of a branch that a build leaves 3/10 free."""

Fill = Callable[[PageFile, list[int], Random], None]


@dataclass(frozen=True, slots=True)
class Grown:
    """One tree. pages_a_lookup: exact mean over random keys. sound: no invariant is broken."""

    shape: Shape
    pages_a_lookup: float
    sound: bool


def in_bulk(pages: PageFile, keys: list[int], _random: Random) -> None:
    """From the bottom up."""
    bulk_load(pages, [(key, key) for key in keys])


def ascending(pages: PageFile, keys: list[int], _random: Random) -> None:
    """One by one, each larger than all before."""
    tree = BPlusTree(pages)
    for key in keys:
        tree.put(key, key)
    tree.commit()


def shuffled(pages: PageFile, keys: list[int], random: Random) -> None:
    """One by one in random order."""
    mixed = list(keys)
    random.shuffle(mixed)
    ascending(pages, mixed, random)


_ARMS: dict[str, Fill] = {
    "in bulk": in_bulk,
    "one by one, ascending": ascending,
    "one by one, random": shuffled,
}


def grow(path: Path, fill: Fill, entries: int, random: Random) -> Grown:
    """Fill a new tree, then look up random keys with nothing kept in memory."""
    with PageFile(path, page_size=PAGE_SIZE, kept_pages=1 << 20, sync=False) as pages:
        fill(pages, list(range(entries)), random)
    with PageFile(path, kept_pages=0) as pages:
        tree = BPlusTree(pages)
        before = pages.pages_read
        for _ in range(_LOOKUPS):
            key = random.randrange(entries)
            if tree.get(key) != key:
                raise RuntimeError(f"the tree lost key {key}")
        read = pages.pages_read - before
        return Grown(shape(tree), read / _LOOKUPS, not violations(tree))


def grow_all(lab: Lab) -> dict[str, dict[int, Grown]]:
    """Our three trees at growing sizes, in new files: the folder stays from run to run."""
    sizes = (100, 1_000, 10_000) if lab.quick else (100, 1_000, 10_000, 100_000)
    grown: dict[str, dict[int, Grown]] = {}
    with tempfile.TemporaryDirectory(dir=lab.folder) as folder:
        for name, fill in _ARMS.items():
            for size in sizes:
                path = Path(folder) / f"{name.replace(' ', '-')}-{size}"
                grown.setdefault(name, {})[size] = grow(path, fill, size, lab.random())
            lab.note(f"{name}: {grown[name][sizes[-1]].shape}")
    return grown


def run(lab: Lab) -> Result:
    """Our three trees at growing sizes; PostgreSQL's at the largest, where it can be read."""
    grown = grow_all(lab)
    server = Postgres("btree")
    lab.runtime.start(server)
    theirs = asyncio.run(_postgres(server.superuser_dsn(), 200_000))
    lab.note(f"PostgreSQL: {theirs or 'without pageinspect'}")
    return judge(grown, theirs)


async def _postgres(dsn: str, entries: int) -> IndexShape | None:
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        if not await has_pageinspect(conn):
            return None
        await conn.execute("DROP TABLE IF EXISTS entry")
        await conn.execute(
            "CREATE TABLE entry AS SELECT n::bigint FROM generate_series(1, %s::int) AS n",
            (entries,),
        )
        await conn.execute("CREATE INDEX of_entry ON entry (n) WITH (fillfactor = 100)")
        return await index_shape(conn, "of_entry")


def judge(grown: dict[str, dict[int, Grown]], theirs: IndexShape | None) -> Result:
    """The arms, and what is claimed of them."""
    leaf, children = (PAGE_SIZE - 16) // 16, (PAGE_SIZE - 20) // 12 + 1
    theory = {size: levels_for(size, leaf=leaf, children=children) for size in grown["in bulk"]}
    arms = [_arm(name, found) for name, found in grown.items()]
    points = tuple((float(size), float(len(levels))) for size, levels in theory.items())
    arms.append(Arm("theory, packed", "theory", {"levels": str(theory[max(theory)])}, points))
    shape_claims = _claims(grown, theory)
    notes = [f"Our pages have {PAGE_SIZE} bytes here, so that few entries make several levels."]
    if theirs is None:
        notes.append("PostgreSQL's own pages were not read: it came without pageinspect.")
    else:
        shape_claims.append(_claim_of(theirs))
        arms.append(_arm_of(theirs))
    return Result(
        arms=tuple(arms),
        shape=tuple(shape_claims),
        plot=Plot(Axis("entries", log=True), Axis("pages read by a lookup")),
        notes=tuple(notes),
    )


def _claims(grown: dict[str, dict[int, Grown]], theory: dict[int, tuple[int, ...]]) -> list[Claim]:
    bulk, largest = grown["in bulk"], max(theory)
    fills = {name: found[largest].shape.fill for name, found in grown.items()}
    every = [one for found in grown.values() for one in found.values()]
    return [
        Claim(
            "A lookup reads exactly as many pages as the tree has levels.",
            all(one.pages_a_lookup == len(one.shape.levels) for one in every),
            ", ".join(f"{n}: {one.pages_a_lookup:g}" for n, one in bulk.items()),
        ),
        Claim(
            "Loaded in bulk, each level has exactly the pages that theory says.",
            all(one.shape.levels == theory[size] for size, one in bulk.items()),
            f"{bulk[largest].shape.levels}, theory {theory[largest]}",
        ),
        Claim(
            "Ascending keys leave pages half full, random ones about ln 2 (Yao), a bulk load full.",
            0.49 <= fills["one by one, ascending"] <= 0.54
            and 0.62 <= fills["one by one, random"] <= 0.76
            and fills["in bulk"] >= 0.99,
            ", ".join(f"{name} {fill:.1%}" for name, fill in fills.items()),
        ),
        Claim(
            "No invariant of any tree is broken.",
            all(one.sound for one in every),
            f"{len(every)} trees read whole",
        ),
    ]


def _arm(name: str, found: dict[int, Grown]) -> Arm:
    largest = found[max(found)]
    figures = {
        "levels": str(largest.shape.levels),
        "fill_percent": round(100 * largest.shape.fill, 1),
        "fan_out": round(largest.shape.fan_out, 1),
        "pages_a_lookup": largest.pages_a_lookup,
    }
    points = tuple((float(size), one.pages_a_lookup) for size, one in found.items())
    return Arm(name, "control" if name == "in bulk" else "treatment", figures, points)


def _claim_of(theirs: IndexShape) -> Claim:
    expected = levels_for(theirs.entries, leaf=_PG_LEAF, children=_PG_BRANCH)
    return Claim(
        "PostgreSQL's index has the height and the leaves that the same arithmetic says.",
        len(theirs.levels) == len(expected) and theirs.levels[-1] == expected[-1],
        f"{theirs.levels}, arithmetic {expected}",
    )


def _arm_of(theirs: IndexShape) -> Arm:
    figures = {
        "levels": str(theirs.levels),
        "fill_percent": round(100 * theirs.fill, 1),
        "fan_out": round(theirs.fan_out, 1),
        "pages_a_lookup": theirs.height,
    }
    return Arm("PostgreSQL, 200,000 bigints", "treatment", figures)


EXPERIMENT = Experiment(
    slug="btree",
    question="How many pages does a lookup in a B+ tree read, and how full are they?",
    varied="the number of entries, and the order in which they come",
    fixed="pages of 512 bytes, 64-bit keys and values, nothing kept in memory",
    run=run,
    topics=("D20",),
    needs=("postgres",),
)
