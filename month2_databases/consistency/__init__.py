"""What a store promises, and what it costs: one feature on PostgreSQL and on a Cassandra ring."""

from month2_databases.consistency.cart import (
    LARGEST,
    CartClosed,
    CartEmpty,
    CartFull,
    CartStore,
    check_quantity,
)
from month2_databases.consistency.cassandra_cart import AgreedCart, PlainCart
from month2_databases.consistency.cassandra_client import Ring, RingSettings, Row, Swap, open_ring
from month2_databases.consistency.cassandra_sessions import RingSession, Seen
from month2_databases.consistency.history import (
    Broken,
    History,
    Operation,
    Promise,
    Read,
    Write,
    broken_promises,
    count_by_promise,
)
from month2_databases.consistency.last_write_wins import Cell, merge, settle, silently_lost
from month2_databases.consistency.postgres_cart import PostgresCart
from month2_databases.consistency.quorum import (
    Level,
    is_served,
    needed,
    overlap,
    stale_chance,
    tolerated,
)
from month2_databases.consistency.read_after_write import Found, NotYetVisible, read_until
from month2_databases.consistency.sessions import Guarantee, Token

__all__ = [
    "LARGEST",
    "AgreedCart",
    "Broken",
    "CartClosed",
    "CartEmpty",
    "CartFull",
    "CartStore",
    "Cell",
    "Found",
    "Guarantee",
    "History",
    "Level",
    "NotYetVisible",
    "Operation",
    "PlainCart",
    "PostgresCart",
    "Promise",
    "Read",
    "Ring",
    "RingSession",
    "RingSettings",
    "Row",
    "Seen",
    "Swap",
    "Token",
    "Write",
    "broken_promises",
    "check_quantity",
    "count_by_promise",
    "is_served",
    "merge",
    "needed",
    "open_ring",
    "overlap",
    "read_until",
    "settle",
    "silently_lost",
    "stale_chance",
    "tolerated",
]
