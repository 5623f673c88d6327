"""A folder of sealed files: base backups and log segments, each whole or absent.

    backups/ID/base.tar, backups/ID/record.json    the record last: without it there is no backup
    wal/NAME                                       log segments
    incoming/NAME                                  where the server's archive_command puts them

A file is written aside, synced, renamed, and its folder synced. A kill leaves files whose names
begin with a dot; they count as nothing and go with the next backup.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from month2_databases.backup.sealed_stream import PieceReader, Source, seal, unseal
from month2_databases.backup.wal_segments import SEGMENT_BYTES, is_segment
from scalelab.errors import Conflict, CorruptData, NotFound, Unavailable


class Repository:
    """Sealed files below `root`. key: 32 bytes; whoever lost it has lost the backups."""

    def __init__(self, root: Path, key: bytes) -> None:
        self.root = root
        self._key = key
        for folder in ("backups", "wal"):
            (root / folder).mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, name: str, source: Source) -> None:
        """Store under `name`, whole or not at all. Raises Unavailable `backup_disk_full`."""
        path = self.root / name
        aside = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with aside.open("wb") as file:
                for piece in seal(source, self._key, name):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            if not is_full(error):
                raise
            raise disk_full(self.root, name) from error

    def pieces(self, name: str) -> Iterator[bytes]:
        """What is stored under `name`. Raises NotFound, or CorruptData in the middle."""
        try:
            with (self.root / name).open("rb") as file:
                yield from unseal(file, self._key, name)
        except FileNotFoundError as error:
            raise NotFound(f"{name} is not in {self.root}", code="backup_file_missing") from error

    def read(self, name: str) -> bytes:
        """All of a small file."""
        return b"".join(self.pieces(name))

    def reader(self, name: str) -> PieceReader:
        """A file open for reading."""
        return PieceReader(self.pieces(name))

    def backup_ids(self) -> list[str]:
        """Ids of whole backups, the oldest first."""
        return sorted(path.parent.name for path in self.root.glob("backups/*/record.json"))

    def segments(self) -> list[str]:
        """Names of stored segments in order of the log."""
        return sorted(path.name for path in (self.root / "wal").iterdir() if is_segment(path.name))

    def log_files(self) -> list[str]:
        """Names of everything stored of the log: segments, backups' notes, timelines' histories."""
        names = (path.name for path in (self.root / "wal").iterdir())
        return sorted(name for name in names if not name.startswith("."))

    def remove_backup(self, backup_id: str) -> int:
        """Remove a backup, its record first: what a kill leaves is no backup. Bytes freed."""
        folder = self.root / "backups" / backup_id
        freed = sum(path.stat().st_size for path in folder.iterdir())
        (folder / "record.json").unlink()
        sync_folder(folder)
        shutil.rmtree(folder)
        return freed

    def remove_log_file(self, name: str) -> int:
        """Remove one file of the log. Bytes freed."""
        path = self.root / "wal" / name
        freed = path.stat().st_size
        path.unlink()
        return freed

    def collect(self, incoming: Path) -> int:
        """Seal what the server has handed over, and only then remove it there; how many files.

        Repeatable after a kill at any point: a file that is stored already must be the same.
        """
        taken = 0
        for path in sorted(incoming.iterdir()):
            if path.name.startswith(".") or path.name.endswith(".partial"):
                continue
            if is_segment(path.name) and path.stat().st_size != SEGMENT_BYTES:
                raise CorruptData(
                    f"{path} has {path.stat().st_size} bytes, no whole segment",
                    code="wal_segment_torn",
                )
            name = f"wal/{path.name}"
            if (self.root / name).exists():
                if self.read(name) != path.read_bytes():
                    raise Conflict(
                        f"{path.name} comes a second time with other bytes: two servers archive "
                        "into one repository. Try: give the copy an archive of its own.",
                        code="wal_segment_differs",
                    )
            else:
                with path.open("rb") as file:
                    self.put(name, file)
            path.unlink()
            taken += 1
        return taken

    def remove_leftovers(self) -> None:
        """Remove backups without a record, and files that a kill left half written."""
        whole = set(self.backup_ids())
        for folder in (self.root / "backups").iterdir():
            if folder.name not in whole:
                shutil.rmtree(folder)
        for path in self.root.glob("**/.*.new"):
            path.unlink()


def write_plain(path: Path, pieces: Iterable[bytes]) -> None:
    """Write pieces to a new file; a failure leaves none."""
    try:
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether it says that a disk has no room, or an account no share of it."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(folder: Path, what: str) -> Unavailable:
    """The error of a disk without room."""
    return Unavailable(
        f"{what} was not written: the disk of {folder} is full. Earlier backups are untouched. "
        "Try: make room, or prune old backups, then backup again.",
        code="backup_disk_full",
    )
