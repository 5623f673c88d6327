"""The book on disk: nothing is answered before its line is flushed; a failed disk stops it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from month6_capstone.payments.book import Line, LineKind, read
from month6_capstone.payments.book_file import open_book
from scalelab.errors import Unavailable


def charge(seq: int) -> Line:
    return Line(seq, "t", LineKind.CHARGE, f"k{seq}", "o", f"ch{seq}", 100, "EUR")


class Disk:
    """os.fsync under a test's control."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.error: OSError | None = None
        self.calls = 0

    def fsync(self, _descriptor: int) -> None:
        self.calls += 1
        self.entered.set()
        self.released.wait(30)
        if self.error is not None:
            raise self.error


@pytest.fixture
def disk() -> Disk:
    return Disk()


async def flushing(disk: Disk) -> None:
    await asyncio.to_thread(disk.entered.wait, 30)


async def test_no_answer_leaves_before_the_flush(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the first request nor its copy is told of a line that may still be lost; lines that
    come during a flush share the next one."""
    path = tmp_path / "book.jsonl"
    async with open_book(path) as book:
        monkeypatch.setattr(os, "fsync", disk.fsync)
        first = asyncio.create_task(book.commit(charge(1)))
        await flushing(disk)
        copy = asyncio.create_task(book.commit(charge(1)))
        others = [asyncio.create_task(book.commit(charge(number))) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in (first, copy, *others))
        disk.released.set()
        assert await asyncio.gather(first, copy, *others) == [True, False, True, True, True]
    assert disk.calls == 2
    lines, _good = read(path.read_bytes())
    assert [line.seq for line in lines] == [1, 2, 3, 4]


async def test_after_a_failed_flush_nothing_is_answered_any_more(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reached the disk is unknown: no retry of the flush, every request is refused."""
    async with open_book(tmp_path / "book.jsonl") as book:
        monkeypatch.setattr(os, "fsync", disk.fsync)
        disk.error = OSError(errno.EIO, "broken")
        disk.released.set()
        for number in (1, 2):
            with pytest.raises(Unavailable, match="broken"):
                await book.commit(charge(number))
        with pytest.raises(Unavailable):
            book.check()
    assert disk.calls == 1


async def test_a_request_that_goes_away_does_not_lose_its_line(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelling the waiter leaves the write alone: the line is in the book for the retry."""
    path = tmp_path / "book.jsonl"
    async with open_book(path) as book:
        monkeypatch.setattr(os, "fsync", disk.fsync)
        gone = asyncio.create_task(book.commit(charge(1)))
        await flushing(disk)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        disk.released.set()
        assert await book.commit(charge(1)) is False
    assert path.read_bytes().count(b"\n") == 1
