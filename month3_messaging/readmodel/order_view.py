"""What the read side knows of an order: a fold over its events. Pure.

Theory of operation
    The log holds each fact about an order once or several times: what was placed, and every status
    that was announced, with its time. A view is the set of facts seen so far. Statuses are ranked
    (RANKED): the saga enters them in that order and in no other, so the current status is the
    highest one seen, wherever in the log it stood. The rank does what a version would; the events
    need not carry one, and those written years ago are folded like today's.

Invariants (tests cite them)
    V1  Folding an event again changes nothing.
    V2  The same events in any order give the same view.
    V3  The status never falls back in rank.
    V4  On every path of the saga the announced statuses ascend in rank.
    V5  An event that cannot mean an order raises; one of another type changes nothing.

V2 leans on the producer: two events with one id are equal (orders/effects.py, E4).

Absent on purpose: `stock_reserved`, which is never announced, and the version of the order, which
counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from month3_messaging.broker import Event
from month3_messaging.orders import ANNOUNCED, Line, Status
from scalelab.errors import CorruptData, InvalidInput

PLACED = "orders.order.placed.v1"
"""The event that brings the details; it enters `pending`."""

ENTERS: Mapping[str, Status] = MappingProxyType(
    {PLACED: Status.PENDING, **{f"orders.order.{status}.v1": status for status in ANNOUNCED}}
)
"""The events that are folded, and the status that each of them says was entered."""

RANKED = (
    Status.PENDING,
    Status.PAID,
    Status.CONFIRMED,
    Status.PAYMENT_FAILED,
    Status.CANCELLED,
    Status.REFUNDED,
)
"""Statuses in the order in which an order can enter them."""

_RANK = {status: rank for rank, status in enumerate(RANKED)}


@dataclass(frozen=True, slots=True)
class Placing:
    """What was placed. total_minor: minor units of `currency` (ISO 4217)."""

    user_id: str
    lines: tuple[Line, ...]
    total_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order as its events tell it.

    placing: None while an event that stood behind the placing is all that is known; no reader is
    shown such an order. entered: at least one status, in rank order, with when it was entered.
    """

    order_id: UUID
    placing: Placing | None
    entered: tuple[tuple[Status, datetime], ...]

    @property
    def status(self) -> Status:
        """The current status."""
        return self.entered[-1][0]


_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$")]
"""What a database can store as text; pydantic refuses lone surrogates itself."""


class _LineIn(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    product_id: _Text
    quantity: int = Field(ge=1)
    unit_minor: int = Field(ge=0)


class _Placed(BaseModel):
    """The members of a placing that count here. More of them are welcome."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    user_id: _Text
    lines: tuple[_LineIn, ...] = Field(strict=False)
    total_minor: int = Field(ge=0, le=2**63 - 1)
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


def fold(view: OrderView | None, event: Event) -> OrderView | None:
    """The view after one more event of its order; None stands for an order nobody heard of.

    Raises InvalidInput or CorruptData if the event cannot mean an order (V5), and then nothing has
    changed. Cost: O(statuses).
    """
    status = ENTERS.get(event.type)
    if status is None:
        return view
    order_id = order_id_of(event)
    known = view or OrderView(order_id, None, ())
    if known.order_id != order_id:
        raise CorruptData(f"{event.type} of {order_id} met the view of {known.order_id}")
    placing = known.placing
    if event.type == PLACED and placing is None:
        placing = _placing(event)
    return replace(known, placing=placing, entered=_entered(known.entered, status, event.time))


def fold_all(
    views: Mapping[UUID, OrderView], events: Iterable[Event]
) -> tuple[dict[UUID, OrderView], int]:
    """Every view that `events` touch, after them, and how many events could not be read."""
    after: dict[UUID, OrderView] = {}
    unreadable = 0
    for event in events:
        try:
            order_id = order_id_of(event)
            view = fold(after.get(order_id) or views.get(order_id), event)
        except (InvalidInput, CorruptData):
            unreadable += 1
            continue
        if view is not None:
            after[order_id] = view
    return after, unreadable


def order_id_of(event: Event) -> UUID:
    """The order that the event is about. Raises CorruptData if its data name another, or none."""
    try:
        order_id = UUID(event.subject)
    except ValueError as error:
        raise CorruptData(f"{event.type} is about {event.subject[:80]!r}, no order id") from error
    if event.data.get("order_id") != str(order_id):
        raise CorruptData(f"{event.type} is about {order_id} but its data name another order")
    return order_id


def _entered(
    entered: tuple[tuple[Status, datetime], ...], status: Status, at: datetime
) -> tuple[tuple[Status, datetime], ...]:
    if any(known is status for known, _ in entered):
        return entered
    return tuple(sorted((*entered, (status, at)), key=lambda one: _RANK[one[0]]))


def _placing(event: Event) -> Placing:
    try:
        placed = _Placed.model_validate(dict(event.data))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInput(f"{event.type}: {first['loc']}: {first['msg']}") from error
    lines = tuple(Line(one.product_id, one.quantity, one.unit_minor) for one in placed.lines)
    return Placing(placed.user_id, lines, placed.total_minor, placed.currency)
