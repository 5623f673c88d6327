"""The book on disk: open and repair, append with fsync, answer only after it.

One writer task takes every line that is waiting, writes them together, fsyncs once, then lets all
their requests answer (group commit): the cost of a disk flush is shared by whoever came meanwhile.
After a failed write or fsync nothing is written any more: what reached the disk is unknown, so
every later request fails until the process is started again and reads the file as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from month6_capstone.payments.book import Index, Line, encode, read
from scalelab.errors import CorruptData, Overloaded, Unavailable

MAX_WAITING = 4096
"""Lines that may wait for the disk; more are refused, so that memory stays bounded."""


class BookFile:
    """The open book. `index` decides; `append` makes a decided line durable."""

    def __init__(self, descriptor: int, index: Index) -> None:
        self.index = index
        self._descriptor = descriptor
        self._waiting: asyncio.Queue[tuple[Line, asyncio.Future[None]]] = asyncio.Queue(MAX_WAITING)
        self._pending: dict[int, asyncio.Future[None]] = {}
        self._failure: OSError | None = None

    async def commit(self, line: Line) -> bool:
        """Return once `line` is on the disk; True if this call was the one that added it.

        A line decided by an earlier request may still be on its way: then its flush is awaited, so
        that a replayed answer is as durable as the first. Raises Unavailable after a disk error.
        """
        if self._failure is not None:
            raise Unavailable(f"the book cannot be written: {self._failure}", code="book_failed")
        is_new = self.index.is_new(line)
        if is_new:
            if self._waiting.full():
                raise Overloaded("too many charges wait for the disk")
            durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.index.add(line)
            self._pending[line.seq] = durable
            self._waiting.put_nowait((line, durable))
        waiting_for = self._pending.get(line.seq)
        if waiting_for is not None:
            await asyncio.shield(waiting_for)
        return is_new

    def check(self) -> None:
        """Raises Unavailable once the disk has failed."""
        if self._failure is not None:
            raise Unavailable(f"the book cannot be written: {self._failure}", code="book_failed")

    async def write_forever(self) -> None:
        """The writer task: batches of waiting lines, one fsync each."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            data = b"".join(encode(line) for line, _durable in batch)
            try:
                await asyncio.to_thread(_write_durably, self._descriptor, data)
            except OSError as error:
                self._fail(error, batch)
                return
            for line, durable in batch:
                self._pending.pop(line.seq, None)
                durable.set_result(None)

    def _fail(self, error: OSError, batch: list[tuple[Line, asyncio.Future[None]]]) -> None:
        self._failure = error
        while not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        for line, durable in batch:
            self._pending.pop(line.seq, None)
            durable.set_exception(Unavailable(f"the book cannot be written: {error}"))
            durable.exception()  # marks it as seen: its request may have gone away


@asynccontextmanager
async def open_book(path: Path) -> AsyncGenerator[BookFile, None]:
    """Read, repair and open the book at `path`; made with its folder if it is not there.

    Raises CorruptData for damage that is not a torn tail: the provider then refuses to start.
    """
    index, descriptor = await asyncio.to_thread(_open, path)
    book = BookFile(descriptor, index)
    writer = asyncio.create_task(book.write_forever(), name="book-writer")
    try:
        yield book
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        os.close(descriptor)


def _open(path: Path) -> tuple[Index, int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        lines, good_bytes = read(path.read_bytes())
        index = Index(lines)
        os.ftruncate(descriptor, good_bytes)
        os.fsync(descriptor)
        _sync_folder(path.parent)
    except CorruptData as error:
        os.close(descriptor)
        raise CorruptData(f"{path}: {error.message}") from error
    except OSError:
        os.close(descriptor)
        raise
    return index, descriptor


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
