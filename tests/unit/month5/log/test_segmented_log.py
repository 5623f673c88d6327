"""Claims about the log on its disk: L1 to L4 of month5_kvstore/log/segmented_log.py."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from month5_kvstore.log import (
    DamagedLog,
    Disk,
    DiskFull,
    Identity,
    LogInUse,
    LogStopped,
    MemoryDisk,
    NotInitialised,
    SegmentedLog,
    Submission,
    WrongIdentity,
    admit,
    initialise,
    write_snapshot,
)
from month5_kvstore.raft import Configuration, Entry, EntryKind, HardState, Snapshot
from scalelab.errors import Conflict, InvalidInput, InvariantBroken

OWN = Identity("shop", 1, "0f" * 16)
MEMBERS = Configuration((1, 2, 3))


def entry(index: int, term: int = 1, data: bytes = b"data") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, data)


def made(disk: MemoryDisk | None = None) -> MemoryDisk:
    disk = disk or MemoryDisk()
    initialise(disk, OWN)
    return disk


def opened(disk: Disk, segment_bytes: int = 1 << 20) -> SegmentedLog:
    return SegmentedLog.open(disk, cluster_id="shop", node_id=1, segment_bytes=segment_bytes)


def persist(log: SegmentedLog, *submissions: Submission) -> None:
    assert log.persist(submissions) == [None] * len(submissions)


def terms(log: SegmentedLog, group: int) -> list[tuple[int, int]]:
    return [(found.index, found.term) for found in log.groups[group].entries]


def fill(disk: MemoryDisk, batches: int, *, segment_bytes: int = 400) -> tuple[int, ...]:
    """So many batches of one entry each; the segments they are in."""
    log = opened(disk, segment_bytes)
    for index in range(1, batches + 1):
        persist(log, Submission(1, [entry(index, data=b"x" * 100)], HardState(1, 1, index)))
    log.close()
    return log.segments


def test_groups_find_their_entries_and_states_again() -> None:
    """L1."""
    disk = made()
    log = opened(disk)
    persist(
        log,
        Submission(7, [entry(1), entry(2)], HardState(1, 2, 1)),
        Submission(8, [entry(1, data=b"")]),
    )
    persist(log, Submission(8, hard_state=HardState(3, 1, 1)))
    log.close()
    again = opened(disk)
    assert again.groups[7].entries == (entry(1), entry(2))
    assert again.groups[7].hard_state == HardState(1, 2, 1)
    assert again.groups[8].entries == (entry(1, data=b""),)
    assert again.groups[8].hard_state == HardState(3, 1, 1)


def test_a_conflicting_suffix_is_replaced_for_its_group_only() -> None:
    disk = made()
    log = opened(disk, 200)
    for index in range(1, 6):
        persist(log, Submission(1, [entry(index)]), Submission(2, [entry(index)]))
    persist(log, Submission(1, [entry(3, term=2)]))
    log.close()
    again = opened(disk)
    assert terms(again, 1) == [(1, 1), (2, 1), (3, 2)]
    assert terms(again, 2) == [(index, 1) for index in range(1, 6)]


def test_what_a_raft_log_cannot_hold_is_left_out_alone() -> None:
    """T3: the others of the batch are written."""
    disk = made()
    log = opened(disk)
    refused, taken = log.persist([Submission(1, [entry(2)]), Submission(2, [entry(1)])])
    assert isinstance(refused, InvariantBroken)
    assert taken is None
    log.close()
    assert list(opened(disk).groups) == [2]


def test_an_entry_over_its_limit_is_left_out_alone() -> None:
    log = opened(made())
    large = entry(1, data=bytes((64 << 20) + 1))
    (refused, taken) = log.persist([Submission(1, [large]), Submission(2, [entry(1)])])
    assert isinstance(refused, InvalidInput)
    assert taken is None
    persist(log, Submission(1, [entry(1)]))


def test_segments_follow_each_other_and_are_read_in_order() -> None:
    disk = made()
    assert fill(disk, 20) == tuple(range(1, 11))
    again = opened(disk)
    assert terms(again, 1) == [(index, 1) for index in range(1, 21)]
    assert again.groups[1].hard_state == HardState(1, 1, 20)


def test_segments_go_when_no_group_needs_them() -> None:
    """The slower group decides; its hard state and snapshot live on in later segments."""
    disk = made()
    log = opened(disk, 300)
    persist(log, Submission(2, [entry(1)], HardState(5, 3, 1)))
    for index in range(1, 20):
        persist(log, Submission(1, [entry(index, data=b"x" * 100)]))
    snapshot(disk, log, 1, 15)
    assert log.segments[0] == 1
    assert log.pinning() == [2]
    snapshot(disk, log, 2, 1)
    assert log.segments[0] > 5
    log.close()
    again = opened(disk)
    assert again.segments == log.segments
    assert terms(again, 1) == [(index, 1) for index in range(16, 20)]
    assert again.groups[2].hard_state == HardState(5, 3, 1)
    assert again.groups[2].entries == ()
    assert again.groups[2].snapshot == Snapshot(1, 1, MEMBERS, b"state 1")


def test_the_snapshot_before_goes_when_the_next_one_is_marked() -> None:
    disk = made()
    log = opened(disk)
    persist(log, Submission(1, [entry(index) for index in range(1, 9)]))
    snapshot(disk, log, 1, 3)
    snapshot(disk, log, 1, 6)
    assert [name for name in disk.names() if "snapshot" in name] == [
        "00000001-0000000000000006.snapshot"
    ]


def test_a_leaders_snapshot_voids_all_entries() -> None:
    disk = made()
    log = opened(disk)
    persist(log, Submission(1, [entry(1), entry(2)]))
    snapshot(disk, log, 1, 10, resets=True)
    persist(log, Submission(1, [entry(11, term=4)]))
    log.close()
    again = opened(disk)
    assert terms(again, 1) == [(11, 4)]
    assert again.groups[1].snapshot == Snapshot(10, 1, MEMBERS, b"state 10")


@pytest.mark.parametrize("change", ["flip", "shorten", "remove"])
def test_a_snapshot_that_is_not_what_was_written_halts_the_opening(change: str) -> None:
    disk = made()
    log = opened(disk)
    persist(log, Submission(1, [entry(1)]))
    snapshot(disk, log, 1, 1)
    log.close()
    (name,) = [name for name in disk.names() if "snapshot" in name]
    content = disk.read(name)
    disk.remove(name)
    if change != "remove":
        changed = content[:-1] if change == "shorten" else content[:40] + b"\x00" + content[41:]
        disk.create(name).write(changed)
    with pytest.raises(DamagedLog) as caught:
        opened(disk)
    assert caught.value.stable_code == "damaged_snapshot"


def test_damage_anywhere_halts_and_changes_nothing() -> None:
    """L2: one bit in each byte of each segment, the last frame included."""
    disk = made()
    segments = fill(disk, 5)
    assert len(segments) == 3
    before = contents(disk)
    for name in [name for name in disk.names() if name.endswith(".wal")]:
        for at in range(len(before[name])):
            changed = bytearray(before[name])
            changed[at] ^= 1 << at % 8
            replace(disk, name, bytes(changed))
            with pytest.raises(DamagedLog):
                opened(disk)
            assert disk.read(name) == bytes(changed)
        replace(disk, name, before[name])
    assert terms(opened(disk), 1) == [(index, 1) for index in range(1, 6)]


def test_a_segment_cut_short_before_a_later_one_halts() -> None:
    """L2: at every byte, frame boundaries included. Records were acknowledged behind the cut."""
    disk = made()
    fill(disk, 5)
    (first, second, _) = [name for name in disk.names() if name.endswith(".wal")]
    for name in (first, second):
        whole = disk.read(name)
        for cut in range(len(whole)):
            replace(disk, name, whole[:cut])
            with pytest.raises(DamagedLog):
                opened(disk)
        replace(disk, name, whole)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_segment_halts(gone: int) -> None:
    disk = made()
    fill(disk, 5)
    disk.remove([name for name in disk.names() if name.endswith(".wal")][gone])
    with pytest.raises(DamagedLog):
        opened(disk)


def test_a_segment_of_another_folder_halts() -> None:
    """Its checksums hold and its number fits."""
    disk, other = made(), MemoryDisk()
    initialise(other, Identity("shop", 1, "aa" * 16))
    name = "0000000000000001.wal"
    replace(disk, name, other.read(name))
    with pytest.raises(DamagedLog) as caught:
        opened(disk)
    assert caught.value.stable_code == "foreign_segment"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_the_first_failed_sync_stops_the_log_for_ever(number: int) -> None:
    """L3: the next sync would report success, and nothing asks it."""
    disk = made()
    log = opened(disk)
    disk.faults.errno_of_sync = number
    with pytest.raises(LogStopped):
        log.persist([Submission(1, [entry(1)])])
    disk.faults.errno_of_sync = None
    calls = disk.calls
    with pytest.raises(LogStopped):
        log.persist([Submission(1, [entry(1)])])
    assert disk.calls == calls


def test_what_a_failed_sync_left_in_the_cache_is_made_real_before_it_is_believed() -> None:
    """After the failure a later sync writes nothing, and the next opening reads the cache."""
    for _ in range(50):
        disk = made(MemoryDisk())
        log = opened(disk)
        disk.faults.errno_of_sync = errno.EIO
        with pytest.raises(LogStopped):
            log.persist([Submission(1, [entry(1)])])
        disk.kill()
        again = opened(disk)
        assert terms(again, 1) == [(1, 1)]
        disk.cut_power()
        assert terms(opened(disk), 1) == [(1, 1)]


def test_a_write_that_fails_stops_the_log() -> None:
    """L3: nobody knows what of it is there."""
    disk = made()
    log = opened(disk)
    disk.faults.errno_of_write = errno.EIO
    with pytest.raises(LogStopped):
        log.persist([Submission(1, [entry(1)])])
    assert log.stopped is not None


def test_a_full_disk_refuses_the_batch_and_the_log_goes_on_when_there_is_space() -> None:
    """L3: at every number of free bytes; nothing that was refused is there later."""
    for free in range(140):
        disk = made()
        log = opened(disk)
        persist(log, Submission(1, [entry(1)]))
        disk.faults.space_bytes = used(disk) + free
        with pytest.raises(DiskFull):
            log.persist([Submission(1, [entry(2, data=b"x" * 100)])])
        disk.faults.space_bytes = None
        persist(log, Submission(1, [entry(2, term=3)]))
        log.close()
        assert terms(opened(disk), 1) == [(1, 1), (2, 3)]


def test_a_full_disk_at_a_rotation_leaves_the_old_segment_in_use() -> None:
    for free in range(0, 80, 7):
        disk = made()
        log = opened(disk, 100)
        persist(log, Submission(1, [entry(1, data=b"x" * 100)]))
        disk.faults.space_bytes = used(disk) + free
        with pytest.raises(DiskFull):
            log.persist([Submission(1, [entry(2)])])
        disk.faults.space_bytes = None
        persist(log, Submission(1, [entry(2)]))
        log.close()
        assert terms(opened(disk), 1) == [(1, 1), (2, 1)]


def test_short_writes_are_finished() -> None:
    disk = made()
    log = opened(disk)
    disk.faults.short_write_bytes = 3
    persist(log, Submission(1, [entry(1, data=b"x" * 100)]))
    log.close()
    assert terms(opened(disk), 1) == [(1, 1)]


def test_a_folder_is_opened_by_one_process_at_a_time() -> None:
    """L4."""
    disk = made()
    log = opened(disk)
    with pytest.raises(LogInUse):
        opened(disk)
    log.close()
    opened(disk)


@pytest.mark.parametrize(
    ("cluster", "node", "code"), [("bank", 1, "wrong_cluster"), ("shop", 2, "wrong_node")]
)
def test_anothers_folder_is_refused_and_let_go(cluster: str, node: int, code: str) -> None:
    """L4."""
    disk = made()
    with pytest.raises(WrongIdentity) as caught:
        SegmentedLog.open(disk, cluster_id=cluster, node_id=node)
    assert caught.value.stable_code == code
    opened(disk)


def test_a_wiped_folder_is_no_log() -> None:
    """It must be made on purpose, under a store id that peers have not seen."""
    with pytest.raises(NotInitialised):
        opened(MemoryDisk())


def test_a_folder_with_a_log_is_not_made_again() -> None:
    disk = made()
    with pytest.raises(Conflict) as caught:
        initialise(disk, OWN)
    assert caught.value.stable_code == "log_exists"


def test_a_log_without_its_identity_is_left_alone() -> None:
    disk = made()
    fill(disk, 3)
    disk.remove("identity")
    before = contents(disk)
    with pytest.raises(DamagedLog) as caught:
        initialise(disk, OWN)
    assert caught.value.stable_code == "identity_missing"
    with pytest.raises(NotInitialised):
        opened(disk)
    assert contents(disk) == before


def test_a_changed_identity_is_refused() -> None:
    disk = made()
    replace(disk, "identity", disk.read("identity").replace(b": 1,", b": 2,"))
    with pytest.raises(DamagedLog) as caught:
        SegmentedLog.open(disk, cluster_id="shop", node_id=2)
    assert caught.value.stable_code == "damaged_identity"


def test_a_peer_that_lost_its_folder_is_not_admitted_under_its_old_id() -> None:
    peer = Identity("shop", 2, "11" * 16)
    known = admit({}, OWN, peer)
    assert admit(known, OWN, peer) == known == {2: "11" * 16}
    for stranger, code in (
        (Identity("shop", 2, "22" * 16), "wiped_node"),
        (Identity("bank", 3, "33" * 16), "wrong_cluster"),
        (Identity("shop", 1, "44" * 16), "node_id_taken"),
    ):
        with pytest.raises(WrongIdentity) as caught:
            admit(known, OWN, stranger)
        assert caught.value.stable_code == code


@pytest.mark.parametrize(
    "members", [("", 1, "0" * 32), ("Shop", 1, "0" * 32), ("shop", 0, "0" * 32), ("shop", 1, "xy")]
)
def test_an_identity_has_its_form(members: tuple[str, int, str]) -> None:
    with pytest.raises(InvalidInput):
        Identity(*members)


def snapshot(
    disk: Disk, log: SegmentedLog, group: int, index: int, *, resets: bool = False
) -> None:
    taken = Snapshot(index, 1, MEMBERS, b"state %d" % index)
    mark = write_snapshot(disk, group, taken, resets=resets)
    persist(log, Submission(group, snapshot=mark))


def contents(disk: MemoryDisk) -> dict[str, bytes]:
    return {name: disk.read(name) for name in disk.names()}


def used(disk: MemoryDisk) -> int:
    return sum(map(len, contents(disk).values()))


def replace(disk: MemoryDisk, name: str, content: bytes | Sequence[int]) -> None:
    disk.remove(name)
    disk.create(name).write(bytes(content))
