"""Four shards become five, and a few keys get most of the load: which placement copes with what?

The same keys are loaded into real databases by four placements: the hash modulo the number of
shards, slots, a ring, and ranges. Then a fifth shard comes, rows are really moved to where the new
placement wants them, and every one is looked for. Load is a Zipf draw over the keys, counted by
the shard it meets. Everything claimed is a count; the databases stand on one server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import xxhash

from month2_databases.sharding import (
    HashPlacement,
    Placement,
    RangePlacement,
    RingPlacement,
    ShardMap,
    SpaceSaving,
    SplitKeys,
    even,
)
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

SHARDS = tuple(f"shard-{number}" for number in range(4))
NEW = "shard-4"
ZIPF = 1.2
WAYS = 16
HOT_SHARE = 0.01
_SPLIT = "slots, hot keys split"


@dataclass(frozen=True, slots=True)
class Modulo:
    """The placement everybody thinks of first."""

    shards: tuple[str, ...]
    version: int = 1

    def shard_of(self, key: object) -> str:
        """The hash modulo the number of shards."""
        return self.shards[xxhash.xxh3_64_intdigest(str(key).encode()) % len(self.shards)]


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted for one placement. rows, accesses, newest: the fullest shard over the mean,
    or of the newest keys its share. moved: keys, and moved_to_old: of these, not to the new one."""

    rows: float
    accesses: float
    newest: float
    moved: int
    moved_to_old: int
    misplaced: int


def run(lab: Lab) -> Result:
    """Fill, count, grow, move, look for every row; placement by placement."""
    size = 8_000 if lab.quick else 40_000
    keys = [f"user-{number:06}" for number in range(size)]
    generator = lab.random()
    ranked = generator.sample(keys, len(keys))
    weights = [rank**-ZIPF for rank in range(1, size + 1)]
    draws = generator.choices(ranked, weights, k=10 * size)
    servers = _databases(lab)
    counted: dict[str, Counted] = {}
    for name, (before, after) in _placements(keys).items():
        counted[name] = _count(servers, keys, draws, before, after)
        lab.note(f"{name}: {counted[name]}")
    split = _accesses_split(draws)
    lab.note(f"{_SPLIT}: fullest shard {split:.2f} times the mean")
    return _judge(counted, split, size)


def _databases(lab: Lab) -> dict[str, str]:
    server = Postgres("skew-shards", settings={"fsync": "off", "full_page_writes": "off"})
    lab.runtime.start(server)
    return {
        shard: server.ensure_database(shard.replace("-", "_"), "skew") for shard in (*SHARDS, NEW)
    }


def _placements(keys: Sequence[str]) -> dict[str, tuple[Placement, Placement]]:
    """Each before and after the fifth shard. Ranges begin even, and the first one is split."""
    quarters = tuple(keys[len(keys) * n // 4] for n in (1, 2, 3))
    ranges = RangePlacement(str, quarters, SHARDS)
    slots = even(SHARDS)
    ring = RingPlacement.of(SHARDS)
    return {
        "modulo": (Modulo(SHARDS), Modulo((*SHARDS, NEW))),
        "slots": (HashPlacement(slots), HashPlacement(_grown(slots))),
        "ring": (ring, ring.with_shard(NEW)),
        "ranges": (ranges, ranges.split(keys[len(keys) // 8], NEW)),
    }


def _grown(before: ShardMap) -> ShardMap:
    """A fifth of the slots go to the new shard, one from each old one in turn."""
    after = before
    for turn in range(256 // 5):
        after = after.moved(after.slots_of(SHARDS[turn % 4])[-1], NEW)
    return after


def _count(
    servers: Mapping[str, str],
    keys: Sequence[str],
    draws: Sequence[str],
    before: Placement,
    after: Placement,
) -> Counted:
    conns = {name: psycopg.connect(dsn, autocommit=True) for name, dsn in servers.items()}
    try:
        for conn in conns.values():
            conn.execute("DROP TABLE IF EXISTS held; CREATE TABLE held (k text PRIMARY KEY)")
        old = {key: before.shard_of(key) for key in keys}
        new = {key: after.shard_of(key) for key in keys}
        for shard in SHARDS:
            _copy(conns[shard], [key for key in keys if old[key] == shard])
        rows = {shard: len(_rows(conns[shard])) for shard in SHARDS}
        moving = [key for key in keys if old[key] != new[key]]
        for shard, conn in conns.items():
            _copy(conn, [key for key in moving if new[key] == shard])
            gone = [key for key in moving if old[key] == shard]
            conn.execute("DELETE FROM held WHERE k = ANY(%s)", (gone,))
        found = {name: _rows(conn) for name, conn in conns.items()}
        misplaced = sum(
            key not in found[new[key]] or sum(key in held for held in found.values()) != 1
            for key in keys
        )
    finally:
        for conn in conns.values():
            conn.close()
    newest = Counter(old[key] for key in keys[-len(keys) // 10 :])
    return Counted(
        rows=_fullest(rows),
        accesses=_fullest(Counter(old[key] for key in draws)),
        newest=max(newest.values()) / newest.total(),
        moved=len(moving),
        moved_to_old=sum(new[key] != NEW for key in moving),
        misplaced=misplaced,
    )


def _copy(conn: psycopg.Connection[Any], keys: Sequence[str]) -> None:
    with conn.cursor() as cursor, cursor.copy("COPY held FROM STDIN") as copy:
        for key in keys:
            copy.write_row((key,))


def _rows(conn: psycopg.Connection[Any]) -> set[str]:
    return {row[0] for row in conn.execute("SELECT k FROM held")}


def _fullest(by_shard: Mapping[str, int]) -> float:
    return max(by_shard.values()) / (sum(by_shard.values()) / len(SHARDS))


def _accesses_split(draws: Sequence[str]) -> float:
    """The first half of the load finds the hot keys, the second half is written split."""
    half = len(draws) // 2
    summary = SpaceSaving(200)
    for key in draws[:half]:
        summary.add(key)
    keys = SplitKeys()
    for hot in summary.hottest(share=HOT_SHARE):
        keys = keys.split(hot.key, WAYS)
    placement = HashPlacement(even(SHARDS))
    written = (keys.writes_to(key, turn) for turn, key in enumerate(draws[half:]))
    return _fullest(Counter(map(placement.shard_of, written)))


def _judge(counted: Mapping[str, Counted], split: float, size: int) -> Result:
    moved = {name: one.moved / size for name, one in counted.items()}
    hashed = ("modulo", "slots", "ring")
    shape = (
        Claim(
            "Modulo moves four keys of five; slots a fifth of them; the ring less than a third.",
            0.76 < moved["modulo"] < 0.84 and 0.15 < moved["slots"] < 0.24 and moved["ring"] < 0.33,
            _told(moved, "{:.1%}"),
        ),
        Claim(
            "A split moves exactly half of one range.",
            counted["ranges"].moved == size // 8,
            f"{counted['ranges'].moved} of {size} keys",
        ),
        Claim(
            "All but modulo move keys to the new shard only.",
            all((one.moved_to_old > 0) == (name == "modulo") for name, one in counted.items()),
            _told({name: one.moved_to_old for name, one in counted.items()}, "{}"),
        ),
        Claim(
            "After the move every row is on its shard and on no other.",
            all(one.misplaced == 0 for one in counted.values()),
            f"{sum(one.misplaced for one in counted.values())} misplaced of {4 * size}",
        ),
        Claim(
            "Rows are even, but under Zipf the fullest shard has over 1.2 times the mean of the "
            "load, whatever the placement.",
            all(one.rows < 1.35 and one.accesses > 1.2 for one in counted.values()),
            _told({name: one.accesses for name, one in counted.items()}, "{:.2f}"),
        ),
        Claim(
            f"Keys above {HOT_SHARE:.0%} of the load, found and written {WAYS} ways, take more "
            "than half of that excess away.",
            split - 1 < (counted["slots"].accesses - 1) / 2,
            f"{counted['slots'].accesses:.2f} before, {split:.2f} after",
        ),
        Claim(
            "The newest tenth of the keys meets one shard under ranges, and is spread by hashes.",
            counted["ranges"].newest == 1.0 and all(counted[n].newest < 0.45 for n in hashed),
            _told({name: one.newest for name, one in counted.items()}, "{:.0%}"),
        ),
    )
    arms = [_arm(place, name, one, size) for place, (name, one) in enumerate(counted.items())]
    arms.append(Arm(_SPLIT, "treatment", {"fullest_load": round(split, 3)}))
    arms.append(Arm("1 / (n + 1)", "theory", {"moved_pct": 20.0}, ((4.0, 20.0),)))
    plot = Plot(Axis("placement"), Axis("keys moved by a fifth shard (%)"), kind="bars")
    notes = (
        f"{size} keys; {10 * size} accesses, Zipf with exponent {ZIPF}.",
        "The hottest key has about a fifth of all accesses: its shard cannot be average.",
        "The ranges stay uneven after the split: two halves and three wholes.",
    )
    return Result(tuple(arms), shape, plot, notes)


def _told(values: Mapping[str, object], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())


def _arm(place: int, name: str, one: Counted, size: int) -> Arm:
    moved_pct = round(one.moved / size * 100, 2)
    figures = {
        "fullest_rows": round(one.rows, 3),
        "fullest_load": round(one.accesses, 3),
        "newest_on_one_pct": round(one.newest * 100, 1),
        "moved_pct": moved_pct,
        "moved_between_old": one.moved_to_old,
    }
    role = "control" if name == "modulo" else "treatment"
    return Arm(name, role, figures, ((float(place), moved_pct),))


EXPERIMENT = Experiment(
    slug="sharding-skew",
    question="What moves when a shard is added, and who helps against a hot key?",
    varied="the placement: modulo, slots, ring, ranges; hot keys split or not",
    fixed="keys, four shards and then five, the Zipf load",
    run=run,
    topics=("A6",),
    needs=("postgres",),
)
