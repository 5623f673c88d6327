"""Sharding: from a key to the one server that has it, and from one question to all servers."""

from month2_databases.sharding.decision_register import SCHEMA as DECISION_SCHEMA
from month2_databases.sharding.decision_register import DecisionRegister
from month2_databases.sharding.directory import Directory
from month2_databases.sharding.events import (
    ReadRouted,
    Reason,
    Role,
    RouterEvent,
    RouterHook,
    RouterMetrics,
    WriteEnded,
)
from month2_databases.sharding.gather import Gathered, Partial, gather
from month2_databases.sharding.hash_placement import HashPlacement, map_of_claims
from month2_databases.sharding.hot_keys import CountMinSketch, HotKey, SpaceSaving
from month2_databases.sharding.id_blocks import SCHEMA as ID_BLOCK_SCHEMA
from month2_databases.sharding.id_blocks import IdBlocks, interleaved
from month2_databases.sharding.map_document import (
    from_document,
    read_slots,
    show_slots,
    to_document,
)
from month2_databases.sharding.map_store import MAP_DDL, MapChange, MapStore
from month2_databases.sharding.map_watch import MapListener, MapWatch
from month2_databases.sharding.merge import Aggregates, Fold, Merge, Ordered, concatenated, top
from month2_databases.sharding.migrate_shards import MigrationReport, ShardMigrations, read_history
from month2_databases.sharding.placement import Placement
from month2_databases.sharding.queries import ShardedDatabase
from month2_databases.sharding.range_placement import RangePlacement
from month2_databases.sharding.ring_placement import RingPlacement
from month2_databases.sharding.router import ShardRouter
from month2_databases.sharding.schema_phases import Held, Phase, Revision, Turn, next_turn
from month2_databases.sharding.sessions import ReadSession, WriteSession
from month2_databases.sharding.shard import PoolSizes
from month2_databases.sharding.shard_map import (
    ServerSettings,
    ShardMap,
    ShardSettings,
    even,
    parse_shards,
)
from month2_databases.sharding.shard_pool import FastSettings, ShardPool
from month2_databases.sharding.shard_setup import set_up_shard
from month2_databases.sharding.slot_entry import EntryPolicy
from month2_databases.sharding.slot_guard import (
    GUARD_DDL,
    SlotFenced,
    StaleShardMap,
    admit,
    fence_slots,
    give_up_slots,
    guard_table,
    open_slots,
    owned_slots,
    owned_twice,
    refusal_of,
    refuse_owned,
)
from month2_databases.sharding.slot_states import SlotMove, SlotState, StoredMap
from month2_databases.sharding.split_keys import SplitKeys
from month2_databases.sharding.two_phase_postgres import TwoPhase, Work
from month2_databases.sharding.unique_values import SCHEMA as UNIQUE_VALUE_SCHEMA
from month2_databases.sharding.unique_values import Reservation, UniqueValues

__all__ = [
    "DECISION_SCHEMA",
    "GUARD_DDL",
    "ID_BLOCK_SCHEMA",
    "MAP_DDL",
    "UNIQUE_VALUE_SCHEMA",
    "Aggregates",
    "CountMinSketch",
    "DecisionRegister",
    "Directory",
    "EntryPolicy",
    "FastSettings",
    "Fold",
    "Gathered",
    "HashPlacement",
    "Held",
    "HotKey",
    "IdBlocks",
    "MapChange",
    "MapListener",
    "MapStore",
    "MapWatch",
    "Merge",
    "MigrationReport",
    "Ordered",
    "Partial",
    "Phase",
    "Placement",
    "PoolSizes",
    "RangePlacement",
    "ReadRouted",
    "ReadSession",
    "Reason",
    "Reservation",
    "Revision",
    "RingPlacement",
    "Role",
    "RouterEvent",
    "RouterHook",
    "RouterMetrics",
    "ServerSettings",
    "ShardMap",
    "ShardMigrations",
    "ShardPool",
    "ShardRouter",
    "ShardSettings",
    "ShardedDatabase",
    "SlotFenced",
    "SlotMove",
    "SlotState",
    "SpaceSaving",
    "SplitKeys",
    "StaleShardMap",
    "StoredMap",
    "Turn",
    "TwoPhase",
    "UniqueValues",
    "Work",
    "WriteEnded",
    "WriteSession",
    "admit",
    "concatenated",
    "even",
    "fence_slots",
    "from_document",
    "gather",
    "give_up_slots",
    "guard_table",
    "interleaved",
    "map_of_claims",
    "next_turn",
    "open_slots",
    "owned_slots",
    "owned_twice",
    "parse_shards",
    "read_history",
    "read_slots",
    "refusal_of",
    "refuse_owned",
    "set_up_shard",
    "show_slots",
    "to_document",
    "top",
]
