"""The order book: the smallest service that needs shards, replicas and consistency tokens."""

from __future__ import annotations

from month2_databases.orderbook.app import OrderBookConfig, create_orderbook_app
from month2_databases.orderbook.order import NewOrder, Order
from month2_databases.orderbook.orders import OrderBook, Placed, Read
from month2_databases.orderbook.preparing import (
    MIGRATIONS,
    SLOT,
    TABLE,
    prepare_map,
    prepare_shards,
)

__all__ = [
    "MIGRATIONS",
    "SLOT",
    "TABLE",
    "NewOrder",
    "Order",
    "OrderBook",
    "OrderBookConfig",
    "Placed",
    "Read",
    "create_orderbook_app",
    "prepare_map",
    "prepare_shards",
]
