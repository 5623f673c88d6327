"""Replication: read-your-writes tokens, replicas' positions, commits that wait for a replica."""

from month2_databases.replication.consistency_token import (
    ConsistencyToken,
    ReplayPosition,
    covers,
    sign,
    verify,
)
from month2_databases.replication.metrics import SyncMetrics
from month2_databases.replication.replay_positions import ReplayPositions, has_replayed
from month2_databases.replication.sync_guard import GuardPolicy, Mode
from month2_databases.replication.sync_guard_postgres import (
    SyncGuard,
    SyncHook,
    SyncModeChanged,
    grants_for,
)

__all__ = [
    "ConsistencyToken",
    "GuardPolicy",
    "Mode",
    "ReplayPosition",
    "ReplayPositions",
    "SyncGuard",
    "SyncHook",
    "SyncMetrics",
    "SyncModeChanged",
    "covers",
    "grants_for",
    "has_replayed",
    "sign",
    "verify",
]
