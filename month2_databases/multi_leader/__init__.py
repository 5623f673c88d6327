"""Multi-leader: two writers, the conflicts they make, and five ways to meet them."""

from month2_databases.multi_leader.convergence import Difference, Rows, compare
from month2_databases.multi_leader.pairing import Leader, Pair, rows
from month2_databases.multi_leader.stamps import (
    Cell,
    Counter,
    Row,
    Stamp,
    Tally,
    by_column,
    last_write,
    merged,
    stamp,
    value,
)

__all__ = [
    "Cell",
    "Counter",
    "Difference",
    "Leader",
    "Pair",
    "Row",
    "Rows",
    "Stamp",
    "Tally",
    "by_column",
    "compare",
    "last_write",
    "merged",
    "rows",
    "stamp",
    "value",
]
