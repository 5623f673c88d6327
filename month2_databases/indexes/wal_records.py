"""The write-ahead log, record by record, as `pg_waldump` prints it.

    rmgr: Heap  len (rec/tot): 54/ 8222, tx: 741, lsn: 0/016AF2D8, prev 0/016AF298,
    desc: HOT_UPDATE off 1 ..., blkref #0: rel 1663/16384/16385 blk 0 FPW

A record says which page changed and how; its first change after a checkpoint carries the whole page
(full-page image, FPW), so that a page which a crash tore in half is written again from the log.
The reader is pure; `dump` runs the program. Source: PostgreSQL documentation, pg_waldump.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scalelab.errors import CorruptData, InvalidInput, Unavailable

_LINE = re.compile(
    r"rmgr: (?P<manager>\S+)\s+len \(rec/tot\):\s*(?P<own>\d+)/\s*(?P<total>\d+), "
    r"tx:\s*(?P<xid>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), prev [0-9A-F]+/[0-9A-F]+, "
    r"desc: (?P<what>\S+)(?P<rest>.*)"
)
_PAGE = re.compile(
    r"blkref #\d+: rel (?P<file>\d+/\d+/\d+)(?: (?:fork|forknum) (?P<fork>\S+))? "
    r"blk (?P<block>\d+)(?P<image>(?: \(?FPW\S*| \(FPW\).*?)?)"
)


@dataclass(frozen=True, slots=True)
class PageRef:
    """A page that a record changes. relation: tablespace/database/file. has_image: all of it."""

    relation: str
    block: int
    has_image: bool


@dataclass(frozen=True, slots=True)
class WalRecord:
    """One record. own_bytes: without images; total_bytes: with them. xid: 0 for none."""

    lsn: str
    manager: str
    what: str
    own_bytes: int
    total_bytes: int
    xid: int
    pages: tuple[PageRef, ...]

    @property
    def images(self) -> int:
        """Whole pages in the record."""
        return sum(page.has_image for page in self.pages)


@dataclass(frozen=True, slots=True)
class WalSummary:
    """Of several records. kinds: `Heap/HOT_UPDATE` → how many."""

    records: int
    own_bytes: int
    total_bytes: int
    images: int
    kinds: dict[str, int]


def read_records(text: str) -> list[WalRecord]:
    """The records of pg_waldump's output, in order. Raises CorruptData for a line it cannot."""
    return list(_records(text.splitlines()))


def summarize(records: Iterable[WalRecord]) -> WalSummary:
    """Count records, bytes and images."""
    listed = list(records)
    return WalSummary(
        records=len(listed),
        own_bytes=sum(record.own_bytes for record in listed),
        total_bytes=sum(record.total_bytes for record in listed),
        images=sum(record.images for record in listed),
        kinds=dict(Counter(f"{record.manager}/{record.what}" for record in listed)),
    )


async def dump(program: Path, wal_folder: Path, *, start: str, end: str) -> list[WalRecord]:
    """Records from one position (`0/16AF2D8`) up to another, of one timeline.

    Raises InvalidInput for a word that is no position, Unavailable with what pg_waldump said.
    """
    for word in (start, end):
        if not re.fullmatch(r"[0-9A-F]{1,8}/[0-9A-F]{1,8}", word):
            raise InvalidInput(f"{word!r} is no position in the log", field="start")
    command = [str(program), "--path", str(wal_folder), "--start", start, "--end", end]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    if process.returncode:
        said = " ".join(errors.decode(errors="replace").split())
        raise Unavailable(f"pg_waldump from {start} to {end}: {said}", code="wal_unreadable")
    return read_records(out.decode())


def _records(lines: Iterable[str]) -> Iterator[WalRecord]:
    for line in lines:
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None:
            raise CorruptData(f"pg_waldump printed {line[:120]!r}", code="wal_line")
        yield WalRecord(
            lsn=match["lsn"],
            manager=match["manager"],
            what=match["what"],
            own_bytes=int(match["own"]),
            total_bytes=int(match["total"]),
            xid=int(match["xid"]),
            pages=tuple(
                PageRef(page["file"], int(page["block"]), "FPW" in page["image"])
                for page in _PAGE.finditer(match["rest"])
            ),
        )
