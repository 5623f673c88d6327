"""Nothing acknowledged is lost to a power cut, wherever it comes; and the judge can say otherwise.

The disk is in memory. A cut comes at any of its calls, also in the middle of a write, and keeps
any of the sectors, and of the names any first ones, that were not synced yet.
"""

from __future__ import annotations

import errno
from random import Random

import pytest

from month5_kvstore.log import (
    DiskFull,
    LogStopped,
    MemoryDisk,
    Point,
    PowerCut,
    SegmentedLog,
    initialise,
)
from tests.fixtures.tiers import Count
from tests.unit.month5.log.crash_workload import (
    Acknowledged,
    Group,
    adopt,
    identity,
    live,
    lost,
    open_or_make,
)

SEGMENT_BYTES = 3000


def run_until_cut(disk: MemoryDisk, told: Acknowledged, chance: Random, steps: int) -> bool:
    """Whether the power went before the work was done."""
    try:
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        assert lost(log, told) == []
        adopt(log, told)
        live(log, disk, told, chance, steps)
        log.close()
    except PowerCut:
        disk.cut_power()
        return True
    return False


@pytest.mark.timeout(1200)
def test_no_torn_tail_loses_an_acknowledged_record(count: Count) -> None:
    """10,000 of them; every life dies several times, also while it comes back."""
    torn = 0
    seed = 0
    for seed in range(count(10_000, share=0.02)):
        chance = Random(seed)
        disk, told = MemoryDisk(chance), Acknowledged()
        for _ in range(chance.randint(1, 3)):
            disk.faults.cut_in = chance.randrange(1, 60)
            torn += run_until_cut(disk, told, chance, 20)
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        assert lost(log, told) == [], f"seed {seed}"
    assert torn > seed / 2


@pytest.mark.parametrize("point", list(Point))
def test_a_cut_at_each_named_point_loses_nothing(point: Point) -> None:
    """All of them are reached by the same workload."""
    reached = 0
    for seed in range(6):
        chance = Random(seed)
        disk, told = MemoryDisk(chance), Acknowledged()
        if point in (Point.TAIL_CUT, Point.OPENED, Point.TAIL_SYNCED):
            log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
            disk.faults.cut_at = Point.BATCH_WRITTEN
            with pytest.raises(PowerCut):
                live(log, disk, told, chance, 2)
            tear(disk)
        disk.faults.cut_at = point
        reached += run_until_cut(disk, told, chance, 80)
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        assert lost(log, told) == []
    assert reached == 6


def tear(disk: MemoryDisk) -> None:
    """The last frame of the log is there in part."""
    disk.kill()
    name = [name for name in disk.names() if name.endswith(".wal")][-1]
    content = disk.read(name)
    file = disk.append_to(name)
    file.truncate(len(content) - 1)
    file.sync()


def test_a_killed_process_loses_nothing_either() -> None:
    """The kernel keeps what was written; also what was never acknowledged may be there."""
    for seed in range(40):
        chance = Random(seed)
        disk, told = MemoryDisk(chance), Acknowledged()
        disk.faults.cut_in = chance.randrange(1, 80)
        try:
            live(open_or_make(disk, segment_bytes=SEGMENT_BYTES), disk, told, chance, 30)
        except PowerCut:
            disk.kill()
        assert lost(open_or_make(disk, segment_bytes=SEGMENT_BYTES), told) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_and_then_a_power_cut_lose_nothing(number: int) -> None:
    """The log stopped, so nothing was acknowledged on top of pages that were lost."""
    for seed in range(60):
        chance = Random(seed)
        disk, told = MemoryDisk(chance), Acknowledged()
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        live(log, disk, told, chance, chance.randint(0, 6))
        disk.faults.errno_of_sync = number
        with pytest.raises((LogStopped, OSError)):
            live(log, disk, told, chance, 1)
        disk.kill()
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        assert lost(log, told) == []
        adopt(log, told)
        disk.cut_power()
        assert lost(open_or_make(disk, segment_bytes=SEGMENT_BYTES), told) == []


def test_a_full_disk_and_then_a_power_cut_lose_nothing() -> None:
    for seed in range(60):
        chance = Random(seed)
        disk, told = MemoryDisk(chance), Acknowledged()
        log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
        disk.faults.space_bytes = chance.randint(500, 12_000)
        try:
            live(log, disk, told, chance, 30)
        except (DiskFull, OSError):
            # What the refused batch would have made is possible no more.
            told.possible = {number: group.copy() for number, group in told.sure.items()}
        disk.cut_power()
        assert lost(open_or_make(disk, segment_bytes=SEGMENT_BYTES), told) == []


class LyingDisk(MemoryDisk):
    """Its syncs return without having done anything."""

    def synced(self, inode: object) -> None:
        self._step()


class ForgetfulFolder(MemoryDisk):
    """Names are never synced."""

    def sync_folder(self) -> None:
        self._step()


@pytest.mark.parametrize("kind", [LyingDisk, ForgetfulFolder])
def test_the_judge_sees_the_loss_on_a_disk_that_lies(kind: type[MemoryDisk]) -> None:
    """Without sync of the file, or of the folder, acknowledged records go, and it is said."""
    caught = 0
    for seed in range(40):
        chance = Random(seed)
        disk, told = kind(chance), Acknowledged()
        disk.faults.cut_in = chance.randrange(30, 80)
        run_until_cut(disk, told, chance, 20)
        try:
            log = SegmentedLog.open(disk, cluster_id="crash", node_id=1)
        except Exception:  # noqa: BLE001 - the identity or a segment is not there
            caught += 1
        else:
            caught += bool(lost(log, told))
    assert caught > 20


def test_the_judge_sees_a_record_that_is_dropped_and_one_that_nobody_wrote() -> None:
    disk, told = MemoryDisk(), Acknowledged()
    log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
    live(log, disk, told, Random(1), 10)
    log.close()
    log = open_or_make(disk, segment_bytes=SEGMENT_BYTES)
    assert lost(log, told) == []
    entries, snapshot, state = told.sure[1].entries, told.sure[1].snapshot, told.sure[1].state
    last = told.sure[1].last
    missing = {index: entry for index, entry in entries.items() if index != last}
    added = {**entries, last + 1: (9, b"")}
    for other in (Group(missing, snapshot, state), Group(added, snapshot, state)):
        claimed = {**told.sure, 1: other}
        assert lost(log, Acknowledged(claimed, claimed)) != []


def test_making_a_folder_is_broken_off_anywhere_and_done_again() -> None:
    for cut_in in range(30):
        disk = MemoryDisk(Random(cut_in))
        disk.faults.cut_in = cut_in
        try:
            initialise(disk, identity(1))
        except PowerCut:
            disk.cut_power()
            open_or_make(disk, segment_bytes=SEGMENT_BYTES).close()
        else:
            disk.cut_power()
            SegmentedLog.open(disk, cluster_id="crash", node_id=1).close()
