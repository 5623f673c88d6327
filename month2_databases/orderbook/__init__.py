"""The order book: the smallest service that needs shards, replicas and consistency tokens."""

from __future__ import annotations

from month2_databases.orderbook.app import OrderBookConfig, create_orderbook_app, migrate
from month2_databases.orderbook.order import NewOrder, Order
from month2_databases.orderbook.orders import OrderBook, Placed, Read

__all__ = [
    "NewOrder",
    "Order",
    "OrderBook",
    "OrderBookConfig",
    "Placed",
    "Read",
    "create_orderbook_app",
    "migrate",
]
