"""The order model in Boyce-Codd normal form, as SQLAlchemy metadata: DDL and diagram come from it.

Every fact stands once. A line's `unit_cents` is no copy of the product's price: it is the price for
which this was ordered, and stays when the product's changes. A total is not stored but asked for.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

METADATA = MetaData()

USER = Table(
    "user_account",
    METADATA,
    Column("user_id", Uuid, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
)
PRODUCT = Table(
    "product",
    METADATA,
    Column("sku", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("price_cents", Integer, CheckConstraint("price_cents > 0"), nullable=False),
)
ORDER = Table(
    "customer_order",
    METADATA,
    Column("order_id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("user_account.user_id"), nullable=False, index=True),
    Column("placed_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
)
LINE = Table(
    "order_line",
    METADATA,
    Column("order_id", Uuid, ForeignKey("customer_order.order_id"), primary_key=True),
    Column("sku", Text, ForeignKey("product.sku"), primary_key=True),
    Column("quantity", SmallInteger, CheckConstraint("quantity > 0"), nullable=False),
    Column("unit_cents", Integer, CheckConstraint("unit_cents > 0"), nullable=False),
)
PAYMENT = Table(
    "payment",
    METADATA,
    Column("payment_id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("customer_order.order_id"), nullable=False, unique=True),
    Column("amount_cents", BigInteger, CheckConstraint("amount_cents > 0"), nullable=False),
)
SHIPMENT = Table(
    "shipment",
    METADATA,
    Column("shipment_id", Uuid, primary_key=True),
    Column("order_id", Uuid, ForeignKey("customer_order.order_id"), nullable=False),
    Column("warehouse", Text, nullable=False),
    Column("sent_at", DateTime(timezone=True)),
    UniqueConstraint("order_id", "warehouse"),
)
