"""Distributed locks and leader election: bounded leases, a watchdog, and the fence that makes
them safe. One interface on Redis, ZooKeeper, Consul and this month's own store."""

from month5_kvstore.locks.election import stand
from month5_kvstore.locks.fenced_table import DDL, Fenced, FencedTable
from month5_kvstore.locks.fencing import Fence, StaleToken
from month5_kvstore.locks.locks import Hold, LockLost, Locks
from month5_kvstore.locks.opening import open_locks
from month5_kvstore.locks.watchdog import Grasp, holding

__all__ = [
    "DDL",
    "Fence",
    "Fenced",
    "FencedTable",
    "Grasp",
    "Hold",
    "LockLost",
    "Locks",
    "StaleToken",
    "holding",
    "open_locks",
    "stand",
]
