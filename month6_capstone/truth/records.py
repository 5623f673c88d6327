"""What the stores say, as plain values: the only input of the rules.

Ids are text here, as every store can print them. Nothing is imported from the services: a checker
that shared their code would share their mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

Lines = tuple[tuple[str, int], ...]
"""A basket: (product id, quantity), sorted by product id."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of the client's log: what a shopper was told. outcome: accepted|refused|unknown."""

    user_id: str
    key: str
    attempt: int
    outcome: str
    status: int | None
    order_id: str | None


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One idempotency record: the answer stored with its effect. order_id: None for a refusal."""

    store: str
    user_id: str
    key: str
    status: int
    order_id: str | None


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order as it stands. total_minor: minor units. version: of its last history row."""

    store: str
    order_id: str
    user_id: str
    status: str
    version: int
    lines: Lines
    total_minor: int
    currency: str
    hold_id: str
    placed_at: datetime
    slot: int | None


@dataclass(frozen=True, slots=True)
class SlotRow:
    """What a shard says of one slot that it has. state: owned|fenced."""

    store: str
    slot: int
    state: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One status that an order entered."""

    order_id: str
    version: int
    status: str


@dataclass(frozen=True, slots=True)
class SagaRow:
    """Whether an order's saga has come to its end."""

    order_id: str
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """What payments believes. amount_minor and charge_id are None while nothing was charged."""

    order_id: str
    status: str
    amount_minor: int | None
    currency: str | None
    charge_id: str | None


@dataclass(frozen=True, slots=True)
class PostingRow:
    """One posting of the ledger, with its entry. account None: the entry has no posting."""

    entry_id: str
    order_id: str
    kind: str
    currency: str
    account: str | None
    amount_minor: int


@dataclass(frozen=True, slots=True)
class BookLine:
    """One line of the provider's own book. kind: charge|decline|refund."""

    seq: int
    kind: str
    key: str
    order_id: str
    charge_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class StockRow:
    """One product's pieces."""

    product_id: str
    initial: int
    available: int
    held: int
    reserved: int


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One hold with its lines. state: held|reserved|released|expired."""

    hold_id: str
    order_id: str | None
    state: str
    expires_at: datetime | None
    lines: Lines


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event that a store committed. id ascends in commit order within a key of one store.
    at: when its transaction began."""

    store: str
    id: int
    event_id: str
    topic: str
    key: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One record as it stands on a topic. event_id is empty if it is no event of ours."""

    topic: str
    partition: int
    offset: int
    key: str
    event_id: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class InboxRow:
    """One event that took effect at a consumer."""

    store: str
    consumer: str
    event_id: str


@dataclass(frozen=True, slots=True)
class World:
    """Everything at one instant of rest: the load has stopped and the backlogs are drained.

    attempts: None when no client kept a log. dead: records on dead-letter topics. taken_at: when
    reading began. outbox_kept_s, answers_kept_s: for how long stores keep rows of sent events
    and stored answers.
    """

    taken_at: datetime
    attempts: tuple[Attempt, ...] | None = None
    answers: tuple[AnswerRow, ...] = ()
    slots: tuple[SlotRow, ...] = ()
    orders: tuple[OrderRow, ...] = ()
    history: tuple[HistoryRow, ...] = ()
    sagas: tuple[SagaRow, ...] = ()
    payments: tuple[PaymentRow, ...] = ()
    postings: tuple[PostingRow, ...] = ()
    book: tuple[BookLine, ...] = ()
    stock: tuple[StockRow, ...] = ()
    holds: tuple[HoldRow, ...] = ()
    outbox: tuple[OutboxRow, ...] = ()
    topic: tuple[TopicRecord, ...] = ()
    dead: tuple[TopicRecord, ...] = ()
    inbox: tuple[InboxRow, ...] = ()
    outbox_kept_s: float = 82_800.0
    answers_kept_s: float = 82_800.0


def unfinished(world: World) -> frozenset[str]:
    """Orders whose saga has not ended. `order_ended` reports them; other rules leave them out."""
    ended = {saga.order_id for saga in world.sagas if saga.ended_at is not None}
    return frozenset(order.order_id for order in world.orders if order.order_id not in ended)


def by_id(world: World) -> Mapping[str, OrderRow]:
    """Orders by id; of an order that stands in two stores, one."""
    return {order.order_id: order for order in world.orders}
