"""The B+ tree beside SQLite's and beside a sorted list: pages a lookup, CPU, and bytes on disk.

200,000 64-bit keys in pages of 4 KiB, looked up in random order, scanned, and put in batches; both
files keep 8 MiB of pages in memory and are not synced. SQLite is C and decodes no page it holds:
the ratios say what a page in Python costs, and nobody is judged by them. The sorted list is bisect
on Python's own integers: it has no pages, survives nothing, and is shown for scale. Pages a lookup
are counted with none kept, and are judged: the height that the arithmetic says, and not one more.
"""

from __future__ import annotations

import sqlite3
import tempfile
from bisect import bisect_left
from collections.abc import Callable
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from random import Random

from month2_databases.indexes import BPlusTree, Capacity, PageFile, bulk_load, height_for
from scalelab.lab.course.bench import AnyFigure, LimitFigure, Options
from scalelab.lab.course.ratio import Ratio, compare, is_void
from scalelab.lab.course.rounds import Measure, cpu_us_per_operation, paired

MONTH = "month2"
_ENTRIES, _PAGE_BYTES, _KEPT_PAGES = 200_000, 4096, 2048
_COUNTED, _SCANNED, _PUT = 500, 1_000, 500
_STEP = 10
"""Between two keys: room for those that are put in later."""


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about a minute."""
    keys = [number * _STEP for number in range(_ENTRIES)]
    asked = list(keys)
    Random(1).shuffle(asked)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "sqlite"
        with PageFile(ours, page_size=_PAGE_BYTES, kept_pages=_KEPT_PAGES, sync=False) as pages:
            bulk_load(pages, [(key, key) for key in keys])
        _fill(theirs, keys)
        figures = _counted(ours, theirs, asked[:_COUNTED])
        with (
            PageFile(ours, kept_pages=_KEPT_PAGES, sync=False) as pages,
            closing(_opened(theirs)) as sqlite,
        ):
            figures += _timed(options, BPlusTree(pages), sqlite, keys, asked)
    return figures


def _fill(path: Path, keys: list[int]) -> None:
    with closing(_opened(path)) as sqlite:
        sqlite.execute("CREATE TABLE entry (key INTEGER PRIMARY KEY, value INTEGER NOT NULL)")
        sqlite.execute("BEGIN")
        sqlite.executemany("INSERT INTO entry VALUES (?, ?)", ((key, key) for key in keys))
        sqlite.execute("COMMIT")


def _opened(path: Path) -> sqlite3.Connection:
    sqlite = sqlite3.connect(path, isolation_level=None)
    sqlite.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    sqlite.execute(f"PRAGMA cache_size = {_KEPT_PAGES}")
    sqlite.execute("PRAGMA synchronous = OFF")
    return sqlite


def _counted(ours: Path, theirs: Path, asked: list[int]) -> list[AnyFigure]:
    """What no clock is needed for."""
    with PageFile(ours, kept_pages=0) as pages:
        tree = BPlusTree(pages)
        before = pages.pages_read
        for key in asked:
            _require(tree.get(key) == key)
        read = (pages.pages_read - before) / len(asked)
        capacity = Capacity.of(_PAGE_BYTES)
    theory = height_for(_ENTRIES, leaf=capacity.leaf, children=capacity.branch + 1)
    size = ours.stat().st_size
    return [
        LimitFigure("btree", "a lookup, none kept in memory", "pages", read, "at_most", theory),
        _shown("bytes an entry, loaded in order", "B", size / _ENTRIES),
        _shown("bytes, ours / SQLite", "times", size / theirs.stat().st_size),
    ]


def _timed(
    options: Options,
    tree: BPlusTree,
    sqlite: sqlite3.Connection,
    keys: list[int],
    asked: list[int],
) -> list[AnyFigure]:
    get = _over(asked, lambda key: _require(tree.get(key) == key))
    control = _ratio(options, "our lookup, twice", get, get)
    if is_void(control):
        options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
    select = _over(asked, lambda key: _require(_selected(sqlite, key) == key))
    bisected = _over(asked, lambda key: _require(keys[bisect_left(keys, key)] == key))
    starts = [key for key in asked if key <= keys[-_SCANNED]]
    scan = _over(starts, lambda low: _require(_scanned(tree, low) == _SCANNED), batch=4)
    fetch = _over(starts, lambda low: _require(_fetched(sqlite, low) == _SCANNED), batch=4)
    put = _over(asked, _putting(tree), batch=1)
    insert = _over(asked, _inserting(sqlite), batch=1)
    return [
        _shown("control: our lookup, A / A", "ratio", control.ratio),
        *_compared(options, "a lookup", get, select, "SQLite"),
        *_compared(options, "a lookup", get, bisected, "a sorted list"),
        *_compared(options, f"a scan of {_SCANNED:,}", scan, fetch, "SQLite"),
        *_compared(options, f"{_PUT} keys put and committed", put, insert, "SQLite"),
    ]


def _selected(sqlite: sqlite3.Connection, key: int) -> int:
    return sqlite.execute("SELECT value FROM entry WHERE key = ?", (key,)).fetchone()[0]


def _scanned(tree: BPlusTree, low: int) -> int:
    return sum(1 for _ in islice(tree.scan(low), _SCANNED))


def _fetched(sqlite: sqlite3.Connection, low: int) -> int:
    statement = "SELECT key, value FROM entry WHERE key >= ? ORDER BY key LIMIT ?"
    return sum(1 for _ in sqlite.execute(statement, (low, _SCANNED)))


def _near(low: int) -> list[int]:
    """Keys around one place, which may be there since an earlier round: then they are set again."""
    return [low + number for number in range(_PUT)]


def _putting(tree: BPlusTree) -> Callable[[int], None]:
    def put(low: int) -> None:
        for key in _near(low):
            tree.put(key, key)
        tree.commit()

    return put


def _inserting(sqlite: sqlite3.Connection) -> Callable[[int], None]:
    def insert(low: int) -> None:
        sqlite.execute("BEGIN")
        for key in _near(low):
            sqlite.execute("INSERT OR REPLACE INTO entry VALUES (?, ?)", (key, key))
        sqlite.execute("COMMIT")

    return insert


def _over(keys: list[int], operation: Callable[[int], None], *, batch: int = 500) -> Measure:
    endless = cycle(keys)

    def some(count: int) -> None:
        for key in islice(endless, count):
            operation(key)

    return cpu_us_per_operation(some, batch=batch)


def _compared(
    options: Options, what: str, ours: Measure, theirs: Measure, peer: str
) -> list[AnyFigure]:
    ratio = _ratio(options, f"{what}, {peer}", ours, theirs)
    options.note(f"{what}: {ratio.ratio:.1f} ({ratio.low:.1f}-{ratio.high:.1f}) times {peer}")
    return [_shown(f"{what}, ours / {peer}", "CPU ratio", ratio.ratio)]


def _ratio(options: Options, what: str, ours: Measure, theirs: Measure) -> Ratio:
    options.note(f"in turns: {what}")
    rounds = paired(ours, theirs, rounds=options.rounds, round_s=options.in_process_round_s)
    return compare(rounds, options.generator)


def _require(right: bool) -> None:
    if not right:
        raise RuntimeError("a wrong answer is no measurement")


def _shown(subject: str, unit: str, value: float) -> LimitFigure:
    return LimitFigure("btree", subject, unit, round(value, 3), "at_most", None)
