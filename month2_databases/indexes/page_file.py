"""Pages in a file: read one by one, written all together or not at all.

    read(n)  →  node           from the pages changed here, from those kept in memory, or the disk
    commit   →  journal: header + every changed page, fsync
                file:    the same pages in their places, fsync
                journal removed

A kill at any point leaves either no whole journal (then the file was not touched) or a whole one:
the next opening writes its pages again, also over those that were torn. Copying each page twice is
the price; PostgreSQL pays it with full-page images in its log, InnoDB with its doublewrite buffer.

Guarantees
    G1  After a kill at any point the file holds the state of a commit: the last one that returned,
        or the one that was under way.
    G2  A page whose bytes are not what was written is never used: CorruptData.
    G3  One process at a time: a second one gets Conflict (flock).

Not for several threads. Without `sync` commits survive kill -9 but not a power failure.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from month2_databases.indexes.node import Branch, Leaf, Node
from month2_databases.indexes.page_layout import (
    HEADER_PAGE,
    SMALLEST_PAGE,
    Capacity,
    FileHeader,
    FreePage,
    Page,
    decode,
    encode,
)
from scalelab.errors import Conflict, CorruptData, InvalidInput, Unavailable

_JOURNAL = struct.Struct("<4sIII")
_JOURNAL_MAGIC = b"SLBJ"
_FIRST_ROOT = 1


class PageFile:
    """The pages of one tree, a context manager; leaving it forgets what was not committed.

    page_size: bytes, for a new file; an old one keeps its own. kept_pages: clean pages in memory.
    """

    def __init__(
        self, path: Path, *, page_size: int = 4096, kept_pages: int = 256, sync: bool = True
    ) -> None:
        Capacity.of(page_size)
        self.path = path
        self.pages_read = 0
        self._page_size = page_size
        self._journal = path.with_name(path.name + ".journal")
        self._kept_pages = kept_pages
        self._sync = sync
        self._clean: OrderedDict[int, Node] = OrderedDict()
        self._changed: dict[int, Page] = {}
        self._broken = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock()
            self._redo()
            self.header = self._open()
        except BaseException:
            os.close(self._file)
            raise
        self._committed = self.header
        self.capacity = Capacity.of(self.header.page_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go; repeatable."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self, number: int) -> Node:
        """The node on a page. Raises CorruptData if its bytes are not one that was written."""
        changed = self._changed.get(number)
        if isinstance(changed, Leaf | Branch):
            return changed
        kept = self._clean.get(number)
        if kept is not None:
            self._clean.move_to_end(number)
            return kept
        node = self._load(number)
        if isinstance(node, FileHeader | FreePage):
            raise CorruptData(f"page {number} of {self.path.name} is no node", code="bad_page")
        self._clean[number] = node
        if len(self._clean) > self._kept_pages:
            self._clean.popitem(last=False)
        return node

    def write(self, number: int, node: Node) -> None:
        """Change a page; on disk with the next commit."""
        self._clean.pop(number, None)
        self._changed[number] = node

    def allocate(self) -> int:
        """The number of a page that holds nothing: a free one, else one more at the end."""
        number = self.header.first_free
        if number:
            page = self._changed.get(number) or self._load(number)
            if not isinstance(page, FreePage):
                raise CorruptData(f"page {number} is not free", code="bad_page")
            self.header = replace(self.header, first_free=page.next_free)
            return number
        number = self.header.pages
        self.header = replace(self.header, pages=number + 1)
        return number

    def release(self, number: int) -> None:
        """Give a page back for later use."""
        self._clean.pop(number, None)
        self._changed[number] = FreePage(self.header.first_free)
        self.header = replace(self.header, first_free=number)

    def free_pages(self) -> list[int]:
        """All free pages, first to last. Raises CorruptData if one is used or comes twice."""
        found: list[int] = []
        number = self.header.first_free
        while number:
            page = self._changed.get(number) or self._load(number)
            if not isinstance(page, FreePage) or number in found:
                raise CorruptData(f"page {number} is not free", code="bad_page")
            found.append(number)
            number = page.next_free
        return found

    def forget(self) -> None:
        """Undo all changes since the last commit."""
        self._changed.clear()
        self.header = self._committed

    def forget_clean(self) -> None:
        """Drop the clean pages in memory, so that the next reads come from the file."""
        self._clean.clear()

    def commit(self) -> int:
        """Write all changes (G1); how many pages were written.

        Raises Unavailable if the disk refused. If it refused before the journal was whole, nothing
        is written and the changes are still here; else this object is spent: open the file again.
        """
        if self._broken:
            raise Unavailable(f"{self.path.name} must be opened again", code="file_spent")
        if not self._changed and self.header == self._committed:
            return 0
        pages: dict[int, Page] = {**self._changed, HEADER_PAGE: self.header}
        images = {n: encode(page, n, self.header.page_size) for n, page in pages.items()}
        self._write_journal(images)
        try:
            self._write_pages(images)
            self._journal.unlink()
        except OSError as error:
            self._broken = True
            raise Unavailable(f"{self.path.name}: {error.strerror}", code="disk_failed") from error
        self._committed = self.header
        for number, page in self._changed.items():
            if not isinstance(page, FileHeader | FreePage) and len(self._clean) < self._kept_pages:
                self._clean[number] = page
        self._changed.clear()
        return len(images)

    def _load(self, number: int) -> Page:
        size = self.header.page_size
        self.pages_read += 1
        return decode(os.pread(self._file, size, number * size), number)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"{self.path} is open elsewhere", code="file_in_use") from error

    def _open(self) -> FileHeader:
        size = os.fstat(self._file).st_size
        if size == 0:
            self.header = self._committed = FileHeader(self._page_size, 0, 0, 0, 0, 0)
            self._changed[_FIRST_ROOT] = Leaf((), ())
            self.header = FileHeader(self._page_size, _FIRST_ROOT, 1, 2, 0, 0)
            self.commit()
            return self.header
        # The checksum covers the page, and its size stands inside it: look, then judge.
        peek = os.pread(self._file, SMALLEST_PAGE, 0)
        (page_size,) = struct.unpack_from("<I", peek.ljust(SMALLEST_PAGE, b"\0"), 24)
        try:
            Capacity.of(page_size)
        except InvalidInput as error:
            raise CorruptData(f"{self.path} is no B+ tree file", code="bad_page") from error
        header = decode(os.pread(self._file, page_size, 0), HEADER_PAGE)
        if not isinstance(header, FileHeader) or header.page_size != page_size:
            raise CorruptData(f"{self.path} does not begin with its header", code="bad_page")
        if size < header.pages * page_size:
            raise CorruptData(f"{self.path} ends before its last page", code="file_cut_short")
        return header

    def _write_journal(self, images: dict[int, bytes]) -> None:
        body = b"".join(struct.pack("<I", number) + data for number, data in images.items())
        head = _JOURNAL.pack(_JOURNAL_MAGIC, self.header.page_size, len(images), zlib.crc32(body))
        try:
            with self._journal.open("wb") as journal:
                journal.write(head + body)
                journal.flush()
                self._fsync(journal.fileno())
            self._fsync_folder()
        except OSError as error:
            with suppress(OSError):
                self._journal.unlink()
            raise Unavailable(f"{self.path.name}: {error.strerror}", code="disk_failed") from error

    def _write_pages(self, images: dict[int, bytes]) -> None:
        for number, data in images.items():
            written = os.pwrite(self._file, data, number * len(data))
            if written != len(data):
                raise OSError(28, "a page was written in part")
        self._fsync(self._file)

    def _redo(self) -> None:
        """Finish a commit that had its journal; drop one that had not."""
        try:
            stored = self._journal.read_bytes()
        except FileNotFoundError:
            return
        images = _whole_journal(stored)
        if images:
            self._write_pages(images)
        self._journal.unlink()

    def _fsync(self, descriptor: int) -> None:
        if self._sync:
            os.fsync(descriptor)

    def _fsync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            self._fsync(folder)
        finally:
            os.close(folder)


def _whole_journal(stored: bytes) -> dict[int, bytes]:
    """The pages of a journal; none if it was cut short."""
    if len(stored) < _JOURNAL.size:
        return {}
    magic, page_size, count, checksum = _JOURNAL.unpack_from(stored)
    body = stored[_JOURNAL.size :]
    whole = len(body) == count * (4 + page_size) and zlib.crc32(body) == checksum
    if magic != _JOURNAL_MAGIC or not whole:
        return {}
    images: dict[int, bytes] = {}
    for start in range(0, len(body), 4 + page_size):
        (number,) = struct.unpack_from("<I", body, start)
        images[number] = body[start + 4 : start + 4 + page_size]
    return images
