"""Orders as values, and the wire forms that come in.

Money is an integer of minor units with an ISO 4217 currency. A price never comes from the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from month3_messaging.orders.saga import Status
from scalelab.errors import InvalidInput

ORDERS_TOPIC = "orders.order"
PAYMENTS_TOPIC = "payments.payment"
STOCK_TOPIC = "inventory.stock"
SOURCE = "/orders"

TOTAL_MINOR_MAX = 10**12
"""Largest total of an order, in minor units; far from the end of a bigint."""

ProductId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]


class LineIn(BaseModel):
    """A line as a customer asks for it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    product_id: ProductId
    quantity: int = Field(ge=1, le=100)


class PlaceOrder(BaseModel):
    """The body of POST /api/v1/orders. Unknown members, a price among them, are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    lines: tuple[LineIn, ...] = Field(min_length=1, max_length=50, strict=False)
    card_token: Annotated[str, StringConstraints(pattern=r"^tok_[A-Za-z0-9]{1,64}$")]

    @field_validator("lines")
    @classmethod
    def _products_are_unique(cls, lines: tuple[LineIn, ...]) -> tuple[LineIn, ...]:
        if len({line.product_id for line in lines}) != len(lines):
            raise ValueError("a product may stand in one line only")
        return lines


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit costs now. unit_minor: minor units, > 0."""

    unit_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a placed order, with the price that was agreed."""

    product_id: str
    quantity: int
    unit_minor: int


@dataclass(frozen=True, slots=True)
class Order:
    """An order as stored. version: rows in its history, 1 when placed."""

    order_id: UUID
    user_id: str
    status: Status
    version: int
    lines: tuple[Line, ...]
    total_minor: int
    currency: str
    hold_id: UUID
    placed_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One row of an order's history. version: 1, 2, 3 … without gaps."""

    version: int
    status: Status
    at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """Changes, oldest first, and whether nothing can follow them any more."""

    changes: list[StatusChange]
    ended: bool


def price_lines(
    wanted: Sequence[LineIn], prices: dict[str, Price]
) -> tuple[tuple[Line, ...], int, str]:
    """The lines with today's prices, their total in minor units, and the currency. Pure.

    Raises InvalidInput code `unknown_product` for one without a price, `mixed_currencies`, or
    `total_too_large`.
    """
    unknown = sorted(line.product_id for line in wanted if line.product_id not in prices)
    if unknown:
        raise InvalidInput(
            f"no such product: {', '.join(unknown[:5])}", field="lines", code="unknown_product"
        )
    currencies = {prices[line.product_id].currency for line in wanted}
    if len(currencies) != 1:
        raise InvalidInput(
            "the products are not sold in one currency", field="lines", code="mixed_currencies"
        )
    lines = tuple(
        Line(line.product_id, line.quantity, prices[line.product_id].unit_minor) for line in wanted
    )
    total_minor = sum(line.quantity * line.unit_minor for line in lines)
    if total_minor > TOTAL_MINOR_MAX:
        raise InvalidInput("the total is too large", field="lines", code="total_too_large")
    return lines, total_minor, currencies.pop()


def event_type(status: Status | str) -> str:
    """The type of the event that announces `status`; "placed" for a new order."""
    return f"orders.order.{status}.v1"


def event_id(order_id: UUID, kind: str) -> UUID:
    """The id of an order's event: the same on every attempt, so a second one cannot be stored."""
    return uuid5(order_id, kind)
