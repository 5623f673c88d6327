"""Sharding: 256 slots over servers, and a router that needs nothing but an id."""

from month2_databases.sharding.events import (
    ReadRouted,
    Reason,
    Role,
    RouterEvent,
    RouterHook,
    RouterMetrics,
    WriteEnded,
)
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

__all__ = [
    "PoolSizes",
    "ReadRouted",
    "ReadSession",
    "Reason",
    "Role",
    "RouterEvent",
    "RouterHook",
    "RouterMetrics",
    "ServerSettings",
    "ShardMap",
    "ShardRouter",
    "ShardSettings",
    "WriteEnded",
    "WriteSession",
    "even",
    "parse_shards",
]
