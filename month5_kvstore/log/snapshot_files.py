"""Snapshots in files of their own: written aside, synced, renamed, then marked in the log.

Only the mark counts. A file without one is left over from a crash and goes at the next opening; a
mark whose file is missing or changed halts it.
"""

from __future__ import annotations

import re
import struct

import xxhash

from month5_kvstore.log.disk import Disk, write_all
from month5_kvstore.log.errors import DamagedLog
from month5_kvstore.log.points import Point
from month5_kvstore.log.records import SnapshotMark
from month5_kvstore.raft import Snapshot

_HEAD = struct.Struct("<5sIQQH")  # magic with version, group, index, term, configuration's bytes
_MAGIC = b"SLSN\x01"
_CHECK = struct.Struct("<Q")
_UNFINISHED = ".new"
_NAME = re.compile(r"^([0-9a-f]{8})-[0-9a-f]{16}\.snapshot(\.new)?$")


def file_name(group: int, index: int) -> str:
    """Sorted by group, then index."""
    return f"{group:08x}-{index:016x}.snapshot"


def write_snapshot(disk: Disk, group: int, snapshot: Snapshot, *, resets: bool) -> SnapshotMark:
    """The whole file on the disk under its name; returns what the log must say of it.

    Raises OSError; the log and the snapshot before are untouched then. Two of one group must not
    be written at the same time.
    """
    members = snapshot.configuration.encode()
    head = _HEAD.pack(_MAGIC, group, snapshot.index, snapshot.term, len(members)) + members
    digest = xxhash.xxh3_64(head)
    digest.update(snapshot.data)
    checksum = digest.intdigest()
    name = file_name(group, snapshot.index)
    unfinished = name + _UNFINISHED
    if unfinished in disk.names():
        disk.remove(unfinished)
    file = disk.create(unfinished)
    try:
        disk.reached(Point.SNAPSHOT_CREATED)
        write_all(file, head)
        disk.reached(Point.SNAPSHOT_HALF_WRITTEN)
        write_all(file, snapshot.data + _CHECK.pack(checksum))
        disk.reached(Point.SNAPSHOT_WRITTEN)
        file.sync()
    except OSError:
        disk.remove(unfinished)  # a full disk needs the space
        raise
    finally:
        file.close()
    disk.reached(Point.SNAPSHOT_SYNCED)
    disk.rename(unfinished, name)
    disk.reached(Point.SNAPSHOT_RENAMED)
    disk.sync_folder()
    disk.reached(Point.SNAPSHOT_NAMED)
    size = len(head) + len(snapshot.data) + _CHECK.size
    return SnapshotMark(
        snapshot.index, snapshot.term, snapshot.configuration, size, checksum, resets
    )


def read_snapshot(disk: Disk, group: int, mark: SnapshotMark) -> Snapshot:
    """What the mark stands for. Raises DamagedLog code `damaged_snapshot`."""
    name = file_name(group, mark.index)
    try:
        content = disk.read(name)
    except FileNotFoundError as error:
        raise DamagedLog(f"{name} is missing", code="damaged_snapshot") from error
    body = content[: -_CHECK.size]
    if len(content) != mark.size_bytes or xxhash.xxh3_64_intdigest(body) != mark.checksum:
        raise DamagedLog(f"{name} is not what was written", code="damaged_snapshot")
    _, _, index, term, length = _HEAD.unpack_from(body)
    if (index, term) != (mark.index, mark.term):
        raise DamagedLog(f"{name} is of another index or term", code="damaged_snapshot")
    return Snapshot(index, term, mark.configuration, body[_HEAD.size + length :])


def remove_other_snapshots(disk: Disk, wanted: set[str], groups: set[int] | None) -> None:
    """Take away files that no mark stands for, of these groups or of all. Raises OSError."""
    for name in disk.names():
        match = _NAME.match(name)
        if match is None or name in wanted:
            continue
        if groups is None or int(match.group(1), 16) in groups:
            disk.remove(name)
            disk.reached(Point.SNAPSHOT_DROPPED)
