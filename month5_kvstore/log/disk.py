"""The seam to the file system: one flat folder, and what a log asks of it.

Two disks pass one contract suite: `PosixDisk` is the file system, `MemoryDisk` one that loses what
was not synced and fails when told. Errors are OSError; whoever calls knows what they mean.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from month5_kvstore.log.points import Point


class DiskFile(Protocol):
    """An open file that is appended to. One writer; not for several threads."""

    def write(self, data: bytes) -> int:
        """Append; returns how many bytes were taken, perhaps fewer than given."""
        ...

    def rewrite(self, offset: int, data: bytes) -> None:
        """Write again what stands at `offset` already, so that the next `sync` writes it."""
        ...

    def sync(self) -> None:
        """Return when content and length are on the disk. Never call it again after it raised."""
        ...

    def truncate(self, size: int) -> None:
        """Cut to `size` bytes; on the disk only after the next `sync`."""
        ...

    def close(self) -> None:
        """Release the file; what was not synced may be lost."""
        ...


class Disk(Protocol):
    """One folder without sub-folders. Names are on the disk only after `sync_folder`."""

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """The whole content."""
        ...

    def create(self, name: str) -> DiskFile:
        """A new, empty file. Raises FileExistsError."""
        ...

    def append_to(self, name: str) -> DiskFile:
        """An existing file, at its end."""
        ...

    def rename(self, old: str, new: str) -> None:
        """In one step; `new` may exist."""
        ...

    def remove(self, name: str) -> None:
        """Take the name away. Raises FileNotFoundError."""
        ...

    def sync_folder(self) -> None:
        """Return when all names made, changed and taken away so far are on the disk."""
        ...

    def lock(self, name: str) -> Callable[[], None]:
        """Hold the folder alone; returns the release. Raises BlockingIOError if another does."""
        ...

    def reached(self, point: Point) -> None:
        """Hear that a named point is reached."""
        ...


class _PosixFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def write(self, data: bytes) -> int:
        taken = os.pwrite(self._descriptor, data, self._size)
        self._size += taken
        return taken

    def rewrite(self, offset: int, data: bytes) -> None:
        taken = 0
        while taken < len(data):
            taken += os.pwrite(self._descriptor, data[taken:], offset + taken)

    def sync(self) -> None:
        _fdatasync(self._descriptor)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._size = size

    def close(self) -> None:
        os.close(self._descriptor)


class PosixDisk:
    """A real folder, made if it is missing (mode 0700); files have mode 0600."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.exists():
            folder.mkdir(mode=0o700)
            _sync_folder(folder.parent)

    def names(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.folder) if entry.is_file())

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def create(self, name: str) -> DiskFile:
        return self._open(name, os.O_CREAT | os.O_EXCL)

    def append_to(self, name: str) -> DiskFile:
        return self._open(name, 0)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.folder / old, self.folder / new)

    def remove(self, name: str) -> None:
        os.unlink(self.folder / name)

    def sync_folder(self) -> None:
        _sync_folder(self.folder)

    def lock(self, name: str) -> Callable[[], None]:
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return lambda: os.close(descriptor)

    def reached(self, point: Point) -> None:
        """Nothing: a real disk does not mind."""

    def _open(self, name: str, flags: int) -> DiskFile:
        flags |= os.O_WRONLY | os.O_CLOEXEC
        return _PosixFile(os.open(self.folder / name, flags, 0o600))


def write_all(file: DiskFile, data: bytes) -> None:
    """Append all of `data`, over as many short writes as it takes. Raises OSError."""
    taken = file.write(data)
    while taken < len(data):
        taken += file.write(data[taken:])


# macOS has no fdatasync, and its fsync stops at the drive's cache: there F_FULLFSYNC is meant.
def _fdatasync(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        fcntl.fcntl(descriptor, full)
    else:
        os.fdatasync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
