"""Replication: sessions on replicas, read-your-writes tokens, commits that wait for a replica."""

from month2_databases.replication.archive_watch import ArchiveAlert, Archiver, ArchiveTrouble
from month2_databases.replication.archive_watch import judge as judge_archiver
from month2_databases.replication.causal_past import Past
from month2_databases.replication.cluster import ClusterSettings, ReplicaSettings
from month2_databases.replication.consistency_token import (
    ConsistencyToken,
    ReplayPosition,
    covers,
    sign,
    verify,
)
from month2_databases.replication.metrics import SyncMetrics
from month2_databases.replication.pool_budget import (
    Budget,
    PoolSizes,
    primary_budget,
    replica_budget,
)
from month2_databases.replication.pool_budget import check as check_budget
from month2_databases.replication.read_policy import (
    ANY_REPLICA,
    CAUSAL,
    MONOTONIC_READS,
    PRIMARY_ONLY,
    READ_YOUR_WRITES,
    Guarantee,
    ReadPolicy,
    ReadReason,
    bounded_staleness,
)
from month2_databases.replication.replay_positions import ReplayPositions, has_replayed
from month2_databases.replication.routing_events import (
    LagMetrics,
    ReadMetrics,
    ReadRouted,
    ServerRole,
)
from month2_databases.replication.session_router import SessionRouter
from month2_databases.replication.sessions import (
    ClientSession,
    Reading,
    ReadSession,
    WriteInReadSession,
    WriteSession,
    Writing,
)
from month2_databases.replication.slot_watch import Slot, SlotAlert, SlotPolicy, SlotTrouble
from month2_databases.replication.slot_watch import judge as judge_slots
from month2_databases.replication.sync_guard import GuardPolicy, Mode
from month2_databases.replication.sync_guard_postgres import (
    SyncGuard,
    SyncHook,
    SyncModeChanged,
    grants_for,
)
from month2_databases.replication.watch_postgres import (
    name_owner,
    name_owners,
    read_archiver,
    read_slots,
)

__all__ = [
    "ANY_REPLICA",
    "CAUSAL",
    "MONOTONIC_READS",
    "PRIMARY_ONLY",
    "READ_YOUR_WRITES",
    "ArchiveAlert",
    "ArchiveTrouble",
    "Archiver",
    "Budget",
    "ClientSession",
    "ClusterSettings",
    "ConsistencyToken",
    "Guarantee",
    "GuardPolicy",
    "LagMetrics",
    "Mode",
    "Past",
    "PoolSizes",
    "ReadMetrics",
    "ReadPolicy",
    "ReadReason",
    "ReadRouted",
    "ReadSession",
    "Reading",
    "ReplayPosition",
    "ReplayPositions",
    "ReplicaSettings",
    "ServerRole",
    "SessionRouter",
    "Slot",
    "SlotAlert",
    "SlotPolicy",
    "SlotTrouble",
    "SyncGuard",
    "SyncHook",
    "SyncMetrics",
    "SyncModeChanged",
    "WriteInReadSession",
    "WriteSession",
    "Writing",
    "bounded_staleness",
    "check_budget",
    "covers",
    "grants_for",
    "has_replayed",
    "judge_archiver",
    "judge_slots",
    "name_owner",
    "name_owners",
    "primary_budget",
    "read_archiver",
    "read_slots",
    "replica_budget",
    "sign",
    "verify",
]
