"""Raft: consensus on one log, as a pure core that the caller gives time, messages and a disk."""

from month5_kvstore.raft.records import Configuration, Entry, EntryKind, HardState, Snapshot

__all__ = ["Configuration", "Entry", "EntryKind", "HardState", "Snapshot"]
