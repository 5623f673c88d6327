"""Orders: placed once, carried to an end by a saga, read by their owner.

`orders_router` is the API, `Placement` the use case behind it, `SagaEffects` what events do to an
order. Where the rows are is the composer's affair: see `Sessions`.
"""

from month3_messaging.orders.api import TOKEN_HEADER, OrdersApi, orders_router, read_own
from month3_messaging.orders.chores import clean_forever, sweep_forever
from month3_messaging.orders.effects import FACTS, News, SagaEffects, apply
from month3_messaging.orders.models import (
    ORDERS_TOPIC,
    PAYMENTS_TOPIC,
    STOCK_TOPIC,
    Line,
    Order,
    PlaceOrder,
    Price,
    Progress,
    StatusChange,
)
from month3_messaging.orders.one_database import sessions_on
from month3_messaging.orders.peers import CatalogPrices, InventoryHolds
from month3_messaging.orders.placement import Placed, Placement
from month3_messaging.orders.records import MIGRATIONS, STATUS_CHANNEL, progress_after
from month3_messaging.orders.saga import ANNOUNCED, FINAL, Fact, Status, order_saga
from month3_messaging.orders.sessions import ReadSession, Sessions, WriteSession
from month3_messaging.orders.slots import MOVING_TABLES, SLOT, STAYING_TABLE, UNSENT_WHILE_NULL

__all__ = [
    "ANNOUNCED",
    "FACTS",
    "FINAL",
    "MIGRATIONS",
    "MOVING_TABLES",
    "ORDERS_TOPIC",
    "PAYMENTS_TOPIC",
    "SLOT",
    "STATUS_CHANNEL",
    "STAYING_TABLE",
    "STOCK_TOPIC",
    "TOKEN_HEADER",
    "UNSENT_WHILE_NULL",
    "CatalogPrices",
    "Fact",
    "InventoryHolds",
    "Line",
    "News",
    "Order",
    "OrdersApi",
    "PlaceOrder",
    "Placed",
    "Placement",
    "Price",
    "Progress",
    "ReadSession",
    "SagaEffects",
    "Sessions",
    "Status",
    "StatusChange",
    "WriteSession",
    "apply",
    "clean_forever",
    "order_saga",
    "orders_router",
    "progress_after",
    "read_own",
    "sessions_on",
    "sweep_forever",
]
