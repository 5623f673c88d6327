"""Sharding: from a key to the one server that has it, and from one question to all servers."""

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
from month2_databases.sharding.merge import Aggregates, Fold, Merge, Ordered, concatenated, top
from month2_databases.sharding.placement import Placement
from month2_databases.sharding.queries import ShardedDatabase
from month2_databases.sharding.range_placement import RangePlacement
from month2_databases.sharding.ring_placement import RingPlacement
from month2_databases.sharding.router import ShardRouter
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

__all__ = [
    "Aggregates",
    "Directory",
    "FastSettings",
    "Fold",
    "Gathered",
    "HashPlacement",
    "Merge",
    "Ordered",
    "Partial",
    "Placement",
    "PoolSizes",
    "RangePlacement",
    "ReadRouted",
    "ReadSession",
    "Reason",
    "RingPlacement",
    "Role",
    "RouterEvent",
    "RouterHook",
    "RouterMetrics",
    "ServerSettings",
    "ShardMap",
    "ShardPool",
    "ShardRouter",
    "ShardSettings",
    "ShardedDatabase",
    "WriteEnded",
    "WriteSession",
    "concatenated",
    "even",
    "gather",
    "map_of_claims",
    "parse_shards",
    "top",
]
