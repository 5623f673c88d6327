"""The events that payments reacts to, as they arrive: checked shapes, nothing more.

Members that payments does not need are ignored, so that orders can add some without asking.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from month3_messaging.broker import Event
from scalelab.errors import CorruptData

PLACED = "orders.order.placed.v1"
CANCELLED = "orders.order.cancelled.v1"


class Placed(BaseModel):
    """orders.order.placed.v1, as far as money is concerned."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order_id: UUID
    total_minor: Annotated[int, Field(gt=0, strict=True)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    card_token: Annotated[str, Field(min_length=1, max_length=200)]


class Cancelled(BaseModel):
    """orders.order.cancelled.v1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order_id: UUID


def parse_placed(event: Event) -> Placed:
    """The data of a `placed` event. Raises CorruptData: such an event can never be handled."""
    try:
        return Placed.model_validate(event.data)
    except ValidationError as error:
        raise CorruptData(f"event {event.id} is not a {PLACED}: {_where(error)}") from error


def parse_cancelled(event: Event) -> Cancelled:
    """The data of a `cancelled` event. Raises CorruptData."""
    try:
        return Cancelled.model_validate(event.data)
    except ValidationError as error:
        raise CorruptData(f"event {event.id} is not a {CANCELLED}: {_where(error)}") from error


def _where(error: ValidationError) -> str:
    """The fields at fault, without their values: card tokens stay out of logs."""
    return ", ".join(
        f"{'.'.join(str(part) for part in each['loc'])} ({each['type']})" for each in error.errors()
    )
