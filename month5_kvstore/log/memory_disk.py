"""A disk in memory that fails and loses as real ones do, with chance passed in.

Two states: what the running process sees, and what is surely on the disk. A power cut leaves, of
every file, the synced bytes and any of the sectors written since; of the folder, the synced names
and any first part of the changes since (a journaling file system keeps their order). A kill of the
process alone loses nothing: the kernel lives on. A sync that fails leaves what it did not write
marked as written: the next one succeeds and writes none of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from month5_kvstore.log.disk import DiskFile
from month5_kvstore.log.points import Point

_SECTOR = 512


class PowerCut(BaseException):
    """The process is gone. No code of ours may catch it and go on."""


@dataclass(slots=True)
class _Inode:
    """now: as processes see it. synced: on the disk. dirty: sectors that the next sync writes."""

    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    dirty: set[int] = field(default_factory=set[int])

    def put(self, offset: int, data: bytes) -> None:
        self.now[offset : offset + len(data)] = data
        self.dirty.update(range(offset // _SECTOR, (offset + len(data)) // _SECTOR + 1))

    def merged(self, size: int, sectors: Iterable[int]) -> bytes:
        """The synced bytes at that length, with these sectors as processes see them."""
        merged = bytearray(self.synced[:size].ljust(size, b"\0"))
        for sector in sectors:
            piece = self.now[sector * _SECTOR : min((sector + 1) * _SECTOR, size)]
            merged[sector * _SECTOR : sector * _SECTOR + len(piece)] = piece
        return bytes(merged)


@dataclass(slots=True)
class Faults:
    """What goes wrong, and when. Counts go down with every matching call; None: never.

    cut_in: calls of any kind until the power goes, the last one done in part. cut_at: the point
    at which it goes. short_write_bytes: the most that one write takes. space_bytes: of the disk.
    errno_of_sync, errno_of_write: raised by the next such call.
    """

    cut_in: int | None = None
    cut_at: Point | None = None
    short_write_bytes: int | None = None
    space_bytes: int | None = None
    errno_of_sync: int | None = None
    errno_of_write: int | None = None


class MemoryDisk:
    """See the module. `calls` counts what a power cut could part."""

    def __init__(self, chance: Random | None = None) -> None:
        self.faults = Faults()
        self.calls = 0
        self.on_reached: Callable[[Point], None] | None = None
        self._chance = chance or Random(0)
        self._now: dict[str, _Inode] = {}
        self._folders: list[dict[str, _Inode]] = [{}]
        self._is_locked = False

    def cut_power(self) -> None:
        """Lose what chance does not keep; then the disk is as the next process finds it."""
        kept = self._folders[self._chance.randrange(len(self._folders))]
        for inode in {id(inode): inode for inode in kept.values()}.values():
            inode.now = bytearray(self._survivors(inode))
            inode.synced = bytes(inode.now)
            inode.dirty = set()
        self._now = dict(kept)
        self._restart()

    def kill(self) -> None:
        """End the process alone; every call it made has its effect."""
        self._restart()

    def names(self) -> list[str]:
        return sorted(self._now)

    def read(self, name: str) -> bytes:
        return bytes(self._inode(name).now)

    def create(self, name: str) -> DiskFile:
        if name in self._now:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        self._step()
        inode = _Inode()
        self._change({**self._now, name: inode})
        return _MemoryFile(self, inode)

    def append_to(self, name: str) -> DiskFile:
        return _MemoryFile(self, self._inode(name))

    def rename(self, old: str, new: str) -> None:
        inode = self._inode(old)
        self._step()
        self._change({**{n: i for n, i in self._now.items() if n != old}, new: inode})

    def remove(self, name: str) -> None:
        self._inode(name)
        self._step()
        self._change({n: i for n, i in self._now.items() if n != name})

    def sync_folder(self) -> None:
        self._fail(self.faults.errno_of_sync)
        self._step()
        self._folders = [dict(self._now)]

    def lock(self, name: str) -> Callable[[], None]:
        if self._is_locked:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), name)
        self._is_locked = True
        return self._unlock

    def reached(self, point: Point) -> None:
        if self.on_reached is not None:
            self.on_reached(point)
        if self.faults.cut_at is point:
            raise PowerCut(point)

    def written(self, inode: _Inode, data: bytes) -> int:
        """One write; may be short, refused, or the last thing that happens."""
        self._fail(self.faults.errno_of_write)
        limit = self.faults.short_write_bytes
        taken = len(data) if limit is None else min(limit, len(data))
        space = self.faults.space_bytes
        if space is not None:
            free = space - sum(len(other.now) for other in self._now.values())
            if free <= 0:
                self._fail(errno.ENOSPC)
            taken = min(taken, free)
        if self.faults.cut_in == 0:
            taken = self._chance.randrange(taken + 1)
        inode.put(len(inode.now), data[:taken])
        self._step()
        return taken

    def rewritten(self, inode: _Inode, offset: int, data: bytes) -> None:
        """One write over what is there."""
        inode.put(offset, data)
        self._step()

    def synced(self, inode: _Inode) -> None:
        """One sync."""
        dirty, inode.dirty = inode.dirty, set()
        self._fail(self.faults.errno_of_sync)
        inode.dirty = dirty
        self._step()
        inode.synced = inode.merged(len(inode.now), sorted(dirty))
        inode.dirty = set()

    def cut(self, inode: _Inode, size: int) -> None:
        """One truncation."""
        self._step()
        del inode.now[size:]

    def _survivors(self, inode: _Inode) -> bytes:
        """The synced bytes, and of what came after any sectors up to any length."""
        low, high = sorted((len(inode.now), len(inode.synced)))
        size = self._chance.choice((low, high, self._chance.randint(low, high)))
        share = self._chance.choice((0.0, 0.5, 1.0))
        kept = [sector for sector in sorted(inode.dirty) if self._chance.random() < share]
        return inode.merged(size, kept)

    def _inode(self, name: str) -> _Inode:
        try:
            return self._now[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None

    def _change(self, names: dict[str, _Inode]) -> None:
        self._now = names
        self._folders.append(dict(names))

    def _step(self) -> None:
        self.calls += 1
        if self.faults.cut_in is not None:
            if self.faults.cut_in == 0:
                raise PowerCut(self.calls)
            self.faults.cut_in -= 1

    def _fail(self, number: int | None) -> None:
        if number is not None:
            raise OSError(number, os.strerror(number))

    def _unlock(self) -> None:
        self._is_locked = False

    def _restart(self) -> None:
        self._folders = [dict(self._now)]
        self._is_locked = False
        self.faults = Faults()


class _MemoryFile:
    def __init__(self, disk: MemoryDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def write(self, data: bytes) -> int:
        return self._disk.written(self._inode, data)

    def rewrite(self, offset: int, data: bytes) -> None:
        self._disk.rewritten(self._inode, offset, data)

    def sync(self) -> None:
        self._disk.synced(self._inode)

    def truncate(self, size: int) -> None:
        self._disk.cut(self._inode, size)

    def close(self) -> None:
        """Nothing to release."""
