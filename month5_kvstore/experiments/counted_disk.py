"""A disk that counts its syncs, takes a while for each, or leaves them out unnoticed."""

from __future__ import annotations

import time
from collections.abc import Callable

from month5_kvstore.log import Disk, DiskFile


class CountedDisk:
    """Around another disk. files, names: whether syncs of files and of the folder are carried out.

    sync_s: what a file's sync takes at least. syncs, folder_syncs: asked for, done or left out.
    """

    def __init__(
        self, disk: Disk, *, files: bool = True, names: bool = True, sync_s: float = 0.0
    ) -> None:
        self.syncs = 0
        self.folder_syncs = 0
        self._disk = disk
        self._files, self._names, self._sync_s = files, names, sync_s
        self.names, self.read, self.lock = disk.names, disk.read, disk.lock
        self.rename, self.remove, self.reached = disk.rename, disk.remove, disk.reached

    def create(self, name: str) -> DiskFile:
        """See Disk."""
        return _CountedFile(self._disk.create(name), self.sync)

    def append_to(self, name: str) -> DiskFile:
        """See Disk."""
        return _CountedFile(self._disk.append_to(name), self.sync)

    def sync_folder(self) -> None:
        """See Disk."""
        self.folder_syncs += 1
        if self._names:
            self._disk.sync_folder()

    def sync(self, file: DiskFile) -> None:
        """One sync of a file."""
        self.syncs += 1
        if self._files:
            file.sync()
            if self._sync_s:
                time.sleep(self._sync_s)


class _CountedFile:
    def __init__(self, file: DiskFile, sync: Callable[[DiskFile], None]) -> None:
        self._file, self._sync = file, sync
        self.write, self.rewrite = file.write, file.rewrite
        self.truncate, self.close = file.truncate, file.close

    def sync(self) -> None:
        self._sync(self._file)
