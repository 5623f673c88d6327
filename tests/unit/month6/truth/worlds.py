"""A small shop at rest, as values: five orders with every end an order can have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from month6_capstone.truth.records import (
    AnswerRow,
    Attempt,
    BookLine,
    HistoryRow,
    HoldRow,
    InboxRow,
    OrderRow,
    OutboxRow,
    PaymentRow,
    PostingRow,
    SagaRow,
    SlotRow,
    StockRow,
    TopicRecord,
    World,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LINES = (("p-1", 2), ("p-2", 1))
COMMITTED = NOW - timedelta(minutes=4)
PATHS = {
    "sold": ("pending", "paid", "stock_reserved", "confirmed"),
    "sold2": ("pending", "paid", "stock_reserved", "confirmed"),
    "declined": ("pending", "payment_failed"),
    "rejected": ("pending", "paid", "cancelled", "refunded"),
    "late": ("pending", "cancelled"),
}
HOLDS = {
    "sold": "reserved",
    "sold2": "reserved",
    "declined": "released",
    "rejected": "released",
    "late": "expired",
}
EVENTS = {
    "sold": ("placed", "captured", "paid", "reserved", "confirmed"),
    "sold2": ("placed", "captured", "paid", "reserved", "confirmed"),
    "declined": ("placed", "failed", "payment_failed", "released"),
    "rejected": ("placed", "captured", "paid", "rejected", "cancelled", "refunded", "released"),
    "late": ("placed", "cancelled", "failed", "released"),
}
TYPES = {
    "placed": "orders.order",
    "paid": "orders.order",
    "payment_failed": "orders.order",
    "cancelled": "orders.order",
    "confirmed": "orders.order",
    "captured": "payments.payment",
    "failed": "payments.payment",
    "refunded": "payments.payment",
    "reserved": "inventory.stock",
    "rejected": "inventory.stock",
    "released": "inventory.stock",
}
STORES = {"orders.order": "shard-0", "payments.payment": "payments", "inventory.stock": "inventory"}
CONSUMERS = {
    "orders.order.placed.v1": ("payments",),
    "orders.order.paid.v1": ("inventory",),
    "orders.order.payment_failed.v1": ("inventory",),
    "orders.order.cancelled.v1": ("payments", "inventory"),
}


def clean_world() -> World:
    """Balanced in every rule."""
    outbox = tuple(_outbox())
    return World(
        taken_at=NOW,
        attempts=(
            *(_attempt(order, "accepted", 202, order) for order in PATHS if order != "late"),
            _attempt("sold", "unknown", None, None, number=0),
            _attempt("late", "unknown", None, None),
            _attempt("never", "unknown", None, None),
            _attempt("refused", "refused", 409, None, number=0),
            _attempt("refused", "refused", 422, None),
            _attempt("no", "refused", 422, None),
        ),
        answers=tuple(
            AnswerRow("shard-0", f"user-{order}", f"key-{order}", 202, order) for order in PATHS
        ),
        slots=tuple(SlotRow("shard-0", slot, "owned") for slot in range(256)),
        orders=tuple(
            OrderRow(
                "shard-0",
                order,
                f"user-{order}",
                path[-1],
                len(path),
                LINES,
                1250,
                "EUR",
                f"hold-{order}",
                NOW - timedelta(minutes=5),
                slot,
            )
            for slot, (order, path) in enumerate(PATHS.items())
        ),
        history=tuple(
            HistoryRow(order, version, status)
            for order, path in PATHS.items()
            for version, status in enumerate(path, start=1)
        ),
        sagas=tuple(SagaRow(order, NOW - timedelta(minutes=1)) for order in PATHS),
        payments=(
            PaymentRow("sold", "captured", 1250, "EUR", "ch-sold"),
            PaymentRow("sold2", "captured", 1250, "EUR", "ch-sold2"),
            PaymentRow("declined", "failed", None, None, None),
            PaymentRow("rejected", "refunded", 1250, "EUR", "ch-rejected"),
            PaymentRow("late", "cancelled", None, None, None),
        ),
        postings=(
            *entry("sold", "capture"),
            *entry("sold2", "capture"),
            *entry("rejected", "capture"),
            *entry("rejected", "refund"),
        ),
        book=(
            line(1, "charge", "sold"),
            line(2, "decline", "declined"),
            line(3, "charge", "rejected"),
            line(4, "charge", "sold2"),
            line(5, "refund", "rejected"),
        ),
        stock=(StockRow("p-1", 10, 6, 0, 4), StockRow("p-2", 10, 7, 1, 2)),
        holds=(
            *(
                HoldRow(f"hold-{order}", order, state, None, LINES)
                for order, state in HOLDS.items()
            ),
            HoldRow("hold-open", None, "held", NOW + timedelta(minutes=1), (("p-2", 1),)),
        ),
        outbox=outbox,
        topic=tuple(_published(outbox)),
        inbox=tuple(_consumed(outbox)),
    )


def entry(order: str, kind: str, amount_minor: int = 1250) -> tuple[PostingRow, PostingRow]:
    """The two postings of a balanced entry."""
    sign = 1 if kind == "capture" else -1
    name = f"{kind}-{order}"
    return (
        PostingRow(name, order, kind, "EUR", "assets:provider", sign * amount_minor),
        PostingRow(name, order, kind, "EUR", "liabilities:orders", -sign * amount_minor),
    )


def line(seq: int, kind: str, order: str, amount_minor: int = 1250) -> BookLine:
    return BookLine(seq, kind, order, order, f"ch-{order}", amount_minor, "EUR")


def _attempt(
    order: str, outcome: str, status: int | None, order_id: str | None, number: int = 1
) -> Attempt:
    return Attempt(f"user-{order}", f"key-{order}", number, outcome, status, order_id)


def _outbox() -> list[OutboxRow]:
    rows: list[OutboxRow] = []
    for order, kinds in EVENTS.items():
        for kind in kinds:
            topic = TYPES[kind]
            event_type = f"{topic}.{kind}.v1"
            event_id = f"{order}-{kind}"
            rows.append(
                OutboxRow(STORES[topic], len(rows), event_id, topic, order, event_type, COMMITTED)
            )
    return rows


def _published(outbox: tuple[OutboxRow, ...]) -> list[TopicRecord]:
    """Every event once, and the first one a second time: duplicates are allowed."""
    rows = [*outbox, outbox[0]]
    return [
        TopicRecord(row.topic, 0, offset, row.key, row.event_id, row.type, COMMITTED)
        for offset, row in enumerate(rows)
    ]


def _consumed(outbox: tuple[OutboxRow, ...]) -> list[InboxRow]:
    rows: list[InboxRow] = []
    for row in outbox:
        consumers = CONSUMERS.get(row.type, ())
        if row.store != "shard-0" and not row.type.endswith("released.v1"):
            consumers = ("orders",)
        rows += [InboxRow("somewhere", consumer, row.event_id) for consumer in consumers]
    return rows
