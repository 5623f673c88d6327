"""The write-ahead log that all Raft groups of a node share: appended, synced, read back."""

from month5_kvstore.log.disk import Disk, DiskFile, PosixDisk
from month5_kvstore.log.errors import (
    DamagedLog,
    DiskFull,
    LogInUse,
    LogQueueFull,
    LogStopped,
    NotInitialised,
    WrongIdentity,
)
from month5_kvstore.log.group_commit import GroupCommit
from month5_kvstore.log.group_trail import Submission
from month5_kvstore.log.identity import Identity, admit
from month5_kvstore.log.log_writer import LogWriter
from month5_kvstore.log.memory_disk import Faults, MemoryDisk, PowerCut
from month5_kvstore.log.points import Point
from month5_kvstore.log.records import SnapshotMark
from month5_kvstore.log.recovery import GroupLog
from month5_kvstore.log.segmented_log import Flushed, SegmentedLog, initialise
from month5_kvstore.log.snapshot_files import write_snapshot

__all__ = [
    "DamagedLog",
    "Disk",
    "DiskFile",
    "DiskFull",
    "Faults",
    "Flushed",
    "GroupCommit",
    "GroupLog",
    "Identity",
    "LogInUse",
    "LogQueueFull",
    "LogStopped",
    "LogWriter",
    "MemoryDisk",
    "NotInitialised",
    "Point",
    "PosixDisk",
    "PowerCut",
    "SegmentedLog",
    "SnapshotMark",
    "Submission",
    "WrongIdentity",
    "admit",
    "initialise",
    "write_snapshot",
]
