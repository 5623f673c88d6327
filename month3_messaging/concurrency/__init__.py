"""Threads, processes and tasks: how work is done side by side, and what goes wrong when it is.

Four subjects, one file each: a bounded pool of threads around calls that block, fork and join over
processes, state that several share, and the event loop. `Visibility.java` is the one thing Python
cannot show: a thread that never sees another's write.
"""

from month3_messaging.concurrency.blocking_pool import BlockingPool, PoolCounts
from month3_messaging.concurrency.fork_join import fork_join, fork_join_threads, split_evenly
from month3_messaging.concurrency.interleavings import Outcomes, Step, explore, schedules
from month3_messaging.concurrency.loop_tasks import LoopTasks, finish_despite_cancel
from month3_messaging.concurrency.shared_stock import (
    Cell,
    ConfinedStock,
    LockedStock,
    RacyStock,
    Shelf,
    Stock,
    SwappedStock,
)

__all__ = [
    "BlockingPool",
    "Cell",
    "ConfinedStock",
    "LockedStock",
    "LoopTasks",
    "Outcomes",
    "PoolCounts",
    "RacyStock",
    "Shelf",
    "Step",
    "Stock",
    "SwappedStock",
    "explore",
    "finish_despite_cancel",
    "fork_join",
    "fork_join_threads",
    "schedules",
    "split_evenly",
]
