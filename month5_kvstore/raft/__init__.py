"""Raft: consensus on one log, as a pure core that the caller gives time, messages and a disk."""

from month5_kvstore.raft.errors import ChangeRefused, ContractBroken, NotLeader
from month5_kvstore.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from month5_kvstore.raft.progress import Phase
from month5_kvstore.raft.raft import Follower, Raft, Status
from month5_kvstore.raft.ready import Ready
from month5_kvstore.raft.records import Configuration, Entry, EntryKind, HardState, Snapshot
from month5_kvstore.raft.settings import Settings
from month5_kvstore.raft.state import ReadState, Role

__all__ = [
    "AppendEntries",
    "AppendEntriesReply",
    "ChangeRefused",
    "Configuration",
    "ContractBroken",
    "Entry",
    "EntryKind",
    "Follower",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "Message",
    "NotLeader",
    "Phase",
    "Raft",
    "ReadIndex",
    "ReadIndexReply",
    "ReadState",
    "Ready",
    "RequestVote",
    "RequestVoteReply",
    "Role",
    "Settings",
    "Snapshot",
    "Status",
    "TimeoutNow",
]
