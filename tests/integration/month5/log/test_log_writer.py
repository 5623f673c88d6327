"""Claims about the log's writer for asyncio, on a real folder."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from month5_kvstore.log import (
    DiskFile,
    DiskFull,
    Flushed,
    GroupCommit,
    Identity,
    LogInUse,
    LogQueueFull,
    LogStopped,
    LogWriter,
    PosixDisk,
    SegmentedLog,
    initialise,
)
from month5_kvstore.raft import Configuration, Entry, EntryKind, HardState, Snapshot
from scalelab.errors import InvariantBroken

DEADLINE_S = 60
MEMBERS = Configuration((1,))


class GatedDisk(PosixDisk):
    """A real folder whose appends wait at a gate, and fail with `error` if it is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.gate.set()
        self.error: int | None = None

    def append_to(self, name: str) -> DiskFile:
        return GatedFile(super().append_to(name), self)


class GatedFile:
    def __init__(self, file: DiskFile, disk: GatedDisk) -> None:
        self._file, self._disk = file, disk
        self.rewrite, self.truncate, self.close = file.rewrite, file.truncate, file.close

    def write(self, data: bytes) -> int:
        self._disk.gate.wait(DEADLINE_S)
        if self._disk.error == errno.ENOSPC:
            raise OSError(errno.ENOSPC, "full")
        return self._file.write(data)

    def sync(self) -> None:
        if self._disk.error == errno.EIO:
            raise OSError(errno.EIO, "broken")
        self._file.sync()


def entry(index: int, data: bytes = b"x" * 100) -> Entry:
    return Entry(index, 1, EntryKind.COMMAND, data)


def opened(disk: PosixDisk) -> SegmentedLog:
    return SegmentedLog.open(disk, cluster_id="shop", node_id=1)


@pytest.fixture
def disk(tmp_path: Path) -> GatedDisk:
    made = GatedDisk(tmp_path / "log")
    initialise(made, Identity("shop", 1, "ab" * 16))
    return made


@pytest.fixture
async def writer(disk: GatedDisk) -> AsyncIterator[LogWriter]:
    async with LogWriter(opened(disk), disk) as made:
        yield made
        disk.gate.set()


async def test_many_appenders_share_few_flushes(disk: GatedDisk) -> None:
    """128 groups, 20 entries each: one flush for all that came while the last one lasted."""
    flushed: list[Flushed] = []
    log = opened(disk)
    log.on_flushed = flushed.append
    async with LogWriter(log, disk) as writer:
        disk.gate.clear()
        first = asyncio.ensure_future(writer.append(1, [entry(1)]))
        rest = [asyncio.ensure_future(writer.append(group, [entry(1)])) for group in range(2, 130)]
        await asyncio.sleep(0)
        disk.gate.set()
        await asyncio.gather(first, *rest)
    assert [event.submissions for event in flushed] == [1, 128]
    again = opened(disk)
    assert len(again.groups) == 129
    again.close()


async def test_appends_of_a_group_keep_their_order(disk: GatedDisk) -> None:
    async with LogWriter(opened(disk), disk) as writer:
        await asyncio.gather(
            *(writer.append(1, [entry(index)], HardState(1, 1, 0)) for index in range(1, 101))
        )
    again = opened(disk)
    assert [found.index for found in again.groups[1].entries] == list(range(1, 101))
    again.close()


async def test_a_failed_sync_fails_everyone_who_waits_and_all_who_come_later(
    writer: LogWriter, disk: GatedDisk
) -> None:
    disk.gate.clear()
    disk.error = errno.EIO
    waiting = [asyncio.ensure_future(writer.append(group, [entry(1)])) for group in range(1, 9)]
    await asyncio.sleep(0)
    disk.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [LogStopped] * 8
    disk.error = None
    with pytest.raises(LogStopped):
        await writer.append(9, [entry(1)])


async def test_a_full_disk_refuses_what_waits_too_and_goes_on_later(
    writer: LogWriter, disk: GatedDisk
) -> None:
    """The second append stands on the first: without it, it may not be written."""
    disk.gate.clear()
    disk.error = errno.ENOSPC
    first = asyncio.ensure_future(writer.append(1, [entry(1)]))
    second = asyncio.ensure_future(writer.append(1, [entry(2)]))
    await asyncio.sleep(0)
    disk.gate.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [DiskFull, DiskFull]
    disk.error = None
    await writer.append(1, [entry(1)])


async def test_one_impossible_append_does_not_fail_the_others(writer: LogWriter) -> None:
    results = await asyncio.gather(
        writer.append(1, [entry(5)]), writer.append(2, [entry(1)]), return_exceptions=True
    )
    assert isinstance(results[0], InvariantBroken)
    assert results[1] is None


async def test_a_writer_whose_queue_is_full_says_so(disk: GatedDisk) -> None:
    queue = GroupCommit(waiting_bytes=500)  # type: ignore[var-annotated]
    async with LogWriter(opened(disk), disk, queue=queue) as writer:
        disk.gate.clear()
        taken = [asyncio.ensure_future(writer.append(group, [entry(1)])) for group in (1, 2, 3, 4)]
        await asyncio.sleep(0)
        with pytest.raises(LogQueueFull):
            await writer.append(5, [entry(1)])
        disk.gate.set()
        await asyncio.gather(*taken)


async def test_a_snapshot_takes_the_place_of_entries(disk: GatedDisk) -> None:
    async with LogWriter(opened(disk), disk) as writer:
        await writer.append(1, [entry(index) for index in range(1, 11)], HardState(1, 1, 10))
        await writer.save_snapshot(1, Snapshot(7, 1, MEMBERS, b"state"))
    again = opened(disk)
    assert again.groups[1].snapshot == Snapshot(7, 1, MEMBERS, b"state")
    assert [found.index for found in again.groups[1].entries] == [8, 9, 10]
    again.close()


async def test_leaving_writes_what_waits_and_lets_the_folder_go(disk: GatedDisk) -> None:
    log = opened(disk)
    async with LogWriter(log, disk) as writer:
        with pytest.raises(LogInUse):
            opened(disk)
        waiting = [asyncio.ensure_future(writer.append(1, [entry(i)])) for i in range(1, 50)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    with pytest.raises(LogStopped):
        await writer.append(1, [entry(50)])
    again = opened(disk)
    assert len(again.groups[1].entries) == 49
    again.close()


async def test_a_cancelled_append_leaves_the_writer_well(
    writer: LogWriter, disk: GatedDisk
) -> None:
    disk.gate.clear()
    cancelled = asyncio.ensure_future(writer.append(1, [entry(1)]))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    disk.gate.set()
    await writer.append(2, [entry(1)])
