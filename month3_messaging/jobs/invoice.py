"""What an invoice says, from the events of its order. Pure.

Amounts are in minor units (cents); the sum of the lines must be the order's total.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from scalelab.errors import CorruptData, InvalidInput

_MAILBOX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,62}", re.ASCII)
_DIGITS = 6


class _LineIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    product_id: Annotated[str, Field(min_length=1, max_length=40)]
    quantity: Annotated[int, Field(ge=1)]
    unit_minor: Annotated[int, Field(ge=0)]


class _OrderIn(BaseModel):
    """What `orders.order.placed.v1` says of an order; the rest of it is not an invoice's affair."""

    model_config = ConfigDict(extra="ignore")

    order_id: str
    user_id: Annotated[str, Field(min_length=1)]
    lines: Annotated[list[_LineIn], Field(min_length=1)]
    total_minor: Annotated[int, Field(ge=0)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    placed_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """quantity pieces at `unit_minor` each."""

    product_id: str
    quantity: int
    unit_minor: int

    @property
    def sum_minor(self) -> int:
        """What the line costs."""
        return self.quantity * self.unit_minor


@dataclass(frozen=True, slots=True)
class Ordered:
    """The order that is invoiced."""

    order_id: str
    user_id: str
    lines: tuple[InvoiceLine, ...]
    total_minor: int
    currency: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class Invoice:
    """number: of the books, 1, 2, 3 … issued_at: when the number was given."""

    number: int
    issued_at: datetime
    order: Ordered

    @property
    def name(self) -> str:
        """The number as printed: `INV-000042`."""
        return f"INV-{self.number:0{_DIGITS}d}"


def order_of(content: Mapping[str, object]) -> Ordered:
    """What an invoice says of an order, from its event.

    Raises CorruptData, code `invoice_content`, for an order that says too little, or whose lines
    are not its total.
    """
    try:
        order = _OrderIn.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorruptData(
            f"no invoice can be made of the order: {where}: {first['msg']}", code="invoice_content"
        ) from error
    lines = tuple(InvoiceLine(one.product_id, one.quantity, one.unit_minor) for one in order.lines)
    found = sum(line.sum_minor for line in lines)
    if found != order.total_minor:
        raise CorruptData(
            f"the lines are {found}, the order's total {order.total_minor}", code="invoice_content"
        )
    return Ordered(
        order.order_id, order.user_id, lines, order.total_minor, order.currency, order.placed_at
    )


def money(minor: int, currency: str) -> str:
    """12345 EUR as `123.45 EUR`; every currency here has a hundred minor units."""
    return f"{minor // 100}.{minor % 100:02d} {currency}"


def address_of(user_id: str, domain: str) -> str:
    """Where the user's mail goes. Raises InvalidInput, code `no_address`.

    Nothing that could add a header or a second recipient becomes an address.
    """
    if _MAILBOX.fullmatch(user_id) is None:
        raise InvalidInput("the user id makes no mail address", field="user_id", code="no_address")
    return f"{user_id}@{domain}"
