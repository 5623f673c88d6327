"""From a chain of calls to events that are safe: three moves over the same books, each runnable."""

from month3_messaging.moves.books import DDL, Tally, charge, reserve, tally
from month3_messaging.moves.event_chain import (
    AFTER_COMMIT,
    PARTS,
    PLACED,
    Part,
    Plain,
    Safe,
    Way,
    place,
)
from month3_messaging.moves.rest_chain import ChainedOrders, service_router

__all__ = [
    "AFTER_COMMIT",
    "DDL",
    "PARTS",
    "PLACED",
    "ChainedOrders",
    "Part",
    "Plain",
    "Safe",
    "Tally",
    "Way",
    "charge",
    "place",
    "reserve",
    "service_router",
    "tally",
]
