"""The log of one node on its disk: opening, appending in frames, rotation, dropping what is old.

    open      lock → identity → read every segment → cut a torn end, sync → check the snapshots
    persist   check → one frame, written and synced → believe it → drop what nobody needs
    rotate    a new segment begins with what older ones would be needed for, synced before its use

Guarantees
    L1  What `persist` returned for is there after any crash, in order, for every group.
    L2  A torn end is cut off; any other damage halts the opening and changes nothing.
    L3  After the first failed sync, or a write whose effect is unknown, nothing is written any
        more: LogStopped, for ever. A full disk refuses the batch and leaves the log as it was.
    L4  One process at a time has the folder; another cluster's or node's folder is refused.

Synchronous, and not for several threads: `LogWriter` gives it one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from month5_kvstore.log.disk import Disk, DiskFile, write_all
from month5_kvstore.log.errors import DamagedLog, DiskFull, LogInUse, LogStopped
from month5_kvstore.log.frame import OVERHEAD_BYTES, Place, encode
from month5_kvstore.log.group_trail import GroupTrail, Ledger, Submission, follow
from month5_kvstore.log.identity import (
    IDENTITY_FILE,
    UNFINISHED_IDENTITY,
    Identity,
    read_identity,
    require,
    write_identity,
)
from month5_kvstore.log.points import Point
from month5_kvstore.log.records import SegmentHead
from month5_kvstore.log.records import encode as encode_record
from month5_kvstore.log.recovery import (
    GroupLog,
    Replay,
    replay,
    segment_name,
)
from month5_kvstore.log.snapshot_files import (
    file_name,
    read_snapshot,
    remove_other_snapshots,
)
from scalelab.errors import Conflict, InvalidInput, InvariantBroken

LOCK_FILE = "lock"
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk that will take more once something was removed."""

_MAX_SEGMENT_BYTES = 2 << 30
_HEAD_BYTES = OVERHEAD_BYTES + len(encode_record(SegmentHead(1, bytes(16))))

Refusal = InvariantBroken | InvalidInput
"""Why one submission of a batch was left out."""


@dataclass(frozen=True, slots=True)
class Flushed:
    """One batch that is on the disk. bytes: of its frame. segments: there are now."""

    submissions: int
    bytes: int
    segments: int


def initialise(disk: Disk, identity: Identity) -> None:
    """Make an empty log in an empty folder. The identity comes last: before it nothing counts.

    Raises Conflict code `log_exists`, DamagedLog code `identity_missing` for a folder with a log
    and no identity, LogInUse, OSError. What a crash left of an earlier attempt is taken away.
    """
    release = _lock(disk)
    try:
        names = disk.names()
        if IDENTITY_FILE in names:
            raise Conflict("this folder holds a log already", code="log_exists")
        leftover = [name for name in names if name not in (LOCK_FILE, UNFINISHED_IDENTITY)]
        begun = leftover in ([], [segment_name(1)])
        if not begun or any(len(disk.read(name)) > _HEAD_BYTES for name in leftover):
            raise DamagedLog(f"there is no identity beside {leftover}", code="identity_missing")
        for name in names:
            if name != LOCK_FILE:
                disk.remove(name)
        head = encode_record(SegmentHead(1, bytes.fromhex(identity.store_id)))
        _new_segment(disk, 1, head, 1).close()
        write_identity(disk, identity)
    finally:
        release()


class SegmentedLog:
    """Open one with `SegmentedLog.open`. groups: what was found, for whoever starts the groups."""

    def __init__(
        self,
        disk: Disk,
        identity: Identity,
        found: Replay,
        file: DiskFile,
        release: Callable[[], None],
        segment_bytes: int,
    ) -> None:
        self.identity = identity
        self.groups: dict[int, GroupLog] = {}
        self.on_flushed: Callable[[Flushed], None] | None = None
        self.stopped: str | None = None
        """Why nothing is written any more (L3)."""
        self._disk = disk
        self._ledger = found.ledger
        self._segments = found.segments
        self._size = found.size
        self._next_number = found.next_number
        self._file = file
        self._release = release
        self._segment_bytes = segment_bytes

    @classmethod
    def open(
        cls, disk: Disk, *, cluster_id: str, node_id: int, segment_bytes: int = 64 << 20
    ) -> SegmentedLog:
        """Read the folder's log and get it ready to be appended to (L1, L2, L4).

        segment_bytes: a segment that has more is followed by a new one.
        Raises NotInitialised, WrongIdentity, LogInUse, DamagedLog, LogStopped if the disk fails.
        """
        if not 1 <= segment_bytes <= _MAX_SEGMENT_BYTES:
            raise InvalidInput(f"{segment_bytes} bytes a segment", field="segment_bytes")
        release = _lock(disk)
        try:
            identity = read_identity(disk)
            require(identity, cluster_id=cluster_id, node_id=node_id)
            found = replay(disk, bytes.fromhex(identity.store_id))
            disk.reached(Point.OPENED)
            groups = _whole_groups(disk, found)
            try:
                file = _repair(disk, found)
            except OSError as error:
                raise LogStopped(f"the disk failed at the opening: {error}") from error
            log = cls(disk, identity, found, file, release, segment_bytes)
            log.groups = groups
        except BaseException:
            release()
            raise
        return log

    @property
    def segments(self) -> tuple[int, ...]:
        """Numbers of the segments there are, the one that is written last."""
        return tuple(self._segments)

    def pinning(self) -> list[int]:
        """Groups whose entries keep the oldest segment: a snapshot of each lets it go."""
        return self._ledger.pinning(self._segments[0])

    def persist(self, batch: Sequence[Submission]) -> list[Refusal | None]:
        """Write a batch and sync it; for each submission None, or why it was left out (T3).

        Raises DiskFull: nothing of the batch is in the log, and it may be tried again.
        Raises LogStopped: whether the batch is in the log will be known at the next opening.
        """
        if self.stopped is not None:
            raise LogStopped(self.stopped)
        self._disk.reached(Point.BATCH_TAKEN)
        if self._size >= self._segment_bytes:
            self._rotate()
        staged, outcomes, body = self._stage(batch)
        if body:
            self._write(body)
            self._ledger.trails.update(staged)
            self._disk.reached(Point.BATCH_DONE)
            if marked := {submission.group for submission in batch if submission.snapshot}:
                self._drop_what_nobody_needs(marked)
            if self.on_flushed is not None:
                size = len(body) + OVERHEAD_BYTES
                self.on_flushed(Flushed(len(batch), size, len(self._segments)))
        return outcomes

    def stop(self, why: str) -> LogStopped:
        """Write nothing any more; returns the error for whoever asks (L3)."""
        self.stopped = self.stopped or why
        return LogStopped(self.stopped)

    def close(self) -> None:
        """Let the folder go. Everything acknowledged is on the disk already."""
        self.stopped = self.stopped or "the log was closed"
        self._file.close()
        self._release()

    def _stage(
        self, batch: Sequence[Submission]
    ) -> tuple[dict[int, GroupTrail], list[Refusal | None], bytes]:
        staged: dict[int, GroupTrail] = {}
        outcomes: list[Refusal | None] = []
        parts: list[bytes] = []
        for submission in batch:
            trail = self._ledger.get(submission.group, staged)
            try:
                after = follow(trail, submission, self._segments[-1])
                parts.append(submission.encode())
            except (InvariantBroken, InvalidInput) as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
                staged[submission.group] = after
        return staged, outcomes, b"".join(parts)

    def _write(self, body: bytes) -> None:
        frame = encode(body, self._next_number, Place(self._segments[-1], self._size))
        try:
            write_all(self._file, frame)
        except OSError as error:
            if error.errno in FULL_DISK:
                self._trim()
                raise DiskFull("the disk is full; nothing was written") from error
            raise self.stop(f"the disk failed while it was written to: {error}") from error
        self._disk.reached(Point.BATCH_WRITTEN)
        self._sync(self._file)
        self._disk.reached(Point.BATCH_SYNCED)
        self._size += len(frame)
        self._next_number += 1

    def _trim(self) -> None:
        """Cut off what a full disk took of a frame, so that the next one has its place."""
        try:
            self._file.truncate(self._size)
        except OSError as error:
            raise self.stop(f"a full disk let nothing be cut off: {error}") from error
        self._sync(self._file)

    def _sync(self, file: DiskFile) -> None:
        try:
            file.sync()
        except OSError as error:
            raise self.stop(f"the disk failed to sync: {error}") from error

    def _rotate(self) -> None:
        """Go on in a new segment. A full disk leaves the old one in use."""
        self._disk.reached(Point.ROTATION_BEGUN)
        number = self._segments[-1] + 1
        head = SegmentHead(number, bytes.fromhex(self.identity.store_id))
        records = (head, *self._ledger.head_records())
        body = b"".join(map(encode_record, records))
        try:
            file = _new_segment(self._disk, number, body, self._next_number)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise self.stop(f"the disk failed to make a segment: {error}") from error
            self._take_back(segment_name(number))
            raise DiskFull("the disk is full; there is no room for a segment") from error
        self._file.close()
        self._file = file
        self._segments.append(number)
        self._size = len(body) + OVERHEAD_BYTES
        self._next_number += 1
        self._disk.reached(Point.ROTATION_DONE)

    def _take_back(self, name: str) -> None:
        try:
            if name in self._disk.names():
                self._disk.remove(name)
            self._disk.sync_folder()
        except OSError as error:
            raise self.stop(f"an unfinished {name} could not be taken away: {error}") from error

    def _drop_what_nobody_needs(self, marked: set[int]) -> None:
        """The oldest segments first, each for good before the next, so that none is missing.

        marked: groups whose older snapshots go; another group may be writing one just now.
        """
        oldest = self._ledger.oldest_needed(self._segments[-1])
        try:
            self._disk.reached(Point.SNAPSHOT_MARKED)
            remove_other_snapshots(self._disk, _wanted(self._ledger), marked)
            while self._segments[0] < oldest:
                self._disk.remove(segment_name(self._segments[0]))
                self._disk.reached(Point.SEGMENT_DROPPED)
                self._disk.sync_folder()
                self._segments.pop(0)
            self._disk.reached(Point.SEGMENTS_DROPPED)
        except OSError as error:
            raise self.stop(f"old files could not be taken away: {error}") from error


def _lock(disk: Disk) -> Callable[[], None]:
    try:
        return disk.lock(LOCK_FILE)
    except BlockingIOError as error:
        raise LogInUse("another process has this folder") from error


def _new_segment(disk: Disk, number: int, body: bytes, frame_number: int) -> DiskFile:
    """A segment with its first frame, name and content on the disk. Raises OSError."""
    file = disk.create(segment_name(number))
    try:
        disk.reached(Point.SEGMENT_CREATED)
        write_all(file, encode(body, frame_number, Place(number, 0)))
        disk.reached(Point.SEGMENT_WRITTEN)
        file.sync()
        disk.reached(Point.SEGMENT_SYNCED)
        disk.sync_folder()
        disk.reached(Point.SEGMENT_NAMED)
    except OSError:
        file.close()
        raise
    return file


def _repair(disk: Disk, found: Replay) -> DiskFile:
    """Cut the torn end and put the last frame on the disk: it will be believed.

    It may have been read from a cache that a failed sync left behind, marked as written. A sync
    alone would do nothing then; writing the same bytes again makes it real.
    """
    if found.unfinished is not None:
        disk.remove(segment_name(found.unfinished))
    file = disk.append_to(segment_name(found.segments[-1]))
    try:
        if found.is_torn:
            file.truncate(found.size)
            disk.reached(Point.TAIL_CUT)
        file.rewrite(found.size - len(found.last_frame), found.last_frame)
        file.sync()
        disk.reached(Point.TAIL_SYNCED)
        remove_other_snapshots(disk, _wanted(found.ledger), None)
        _drop_stale_segments(disk, found)
        disk.sync_folder()
    except BaseException:
        file.close()
        raise
    return file


def _drop_stale_segments(disk: Disk, found: Replay) -> None:
    """Go on where a crash broke off the dropping of segments."""
    oldest = found.ledger.oldest_needed(found.segments[-1])
    while found.segments[0] < oldest:
        disk.remove(segment_name(found.segments[0]))
        disk.sync_folder()
        found.segments.pop(0)


def _whole_groups(disk: Disk, found: Replay) -> dict[int, GroupLog]:
    groups: dict[int, GroupLog] = {}
    for group, trail in sorted(found.ledger.trails.items()):
        mark = trail.snapshot
        snapshot = None if mark is None else read_snapshot(disk, group, mark)
        entries = tuple(found.entries.get(group, ()))
        groups[group] = GroupLog(trail.hard_state, snapshot, entries)
    return groups


def _wanted(ledger: Ledger) -> set[str]:
    """Names of the snapshot files that marks stand for."""
    return {
        file_name(group, trail.snapshot.index)
        for group, trail in ledger.trails.items()
        if trail.snapshot is not None
    }
