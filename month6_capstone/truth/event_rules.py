"""Events: what stores committed, what stands on the topics, what took effect at consumers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Set
from datetime import datetime, timedelta

from month6_capstone.truth.records import OutboxRow, TopicRecord, World
from scalelab.lab.verify import Check, at_most_once, each, first_seen_in_order, subset

REACTIONS: Mapping[str, Set[str]] = {
    "orders.order.placed.v1": {"payments"},
    "orders.order.paid.v1": {"inventory"},
    "orders.order.payment_failed.v1": {"inventory"},
    "orders.order.cancelled.v1": {"payments", "inventory"},
    "payments.payment.captured.v1": {"orders"},
    "payments.payment.failed.v1": {"orders"},
    "payments.payment.refunded.v1": {"orders"},
    "inventory.stock.reserved.v1": {"orders"},
    "inventory.stock.rejected.v1": {"orders"},
}
"""Which consumers must react to which event. Others may listen without leaving a trace."""


def check_events(world: World) -> list[Check]:
    """All rules between outboxes, topics and inboxes."""
    committed = {row.event_id: row for row in world.outbox}
    on_topic = {record.event_id for record in world.topic}
    consumed = {(row.consumer, row.event_id) for row in world.inbox}
    must_react = {
        (consumer, record.event_id)
        for record in world.topic
        for consumer in REACTIONS.get(record.type, frozenset())
    }
    oldest_kept = world.taken_at - timedelta(seconds=world.outbox_kept_s)
    recent = [record for record in world.topic if record.at > oldest_kept]
    return [
        at_most_once(
            "event_committed_once", [row.event_id for row in world.outbox], what="outbox rows"
        ),
        subset(
            "committed_event_is_published",
            committed.keys(),
            on_topic,
            detail="committed to an outbox, not on its topic",
        ),
        each(
            "published_event_was_committed",
            recent,
            lambda record: None if record.event_id in committed else "on the topic, in no outbox",
            _ids,
        ),
        each(
            "published_as_committed",
            [record for record in recent if record.event_id in committed],
            lambda record: _differs(record, committed[record.event_id]),
            _ids,
        ),
        first_seen_in_order("order_per_key", *_written_and_seen(world)),
        subset(
            "published_event_took_effect",
            must_react,
            consumed,
            detail="published, and its consumer has no inbox row",
        ),
        each(
            "effect_has_its_event",
            world.inbox,
            lambda row: None if row.event_id in on_topic else "took effect, and is on no topic",
            lambda row: (row.consumer, row.event_id),
        ),
    ]


def count_events(world: World) -> dict[str, int]:
    """Figures that break nothing: copies beyond the first, and dead letters."""
    distinct = {(record.topic, record.event_id) for record in world.topic}
    return {
        "duplicate_events": len(world.topic) - len(distinct),
        "dead_letters": len(world.dead),
    }


def _differs(record: TopicRecord, row: OutboxRow) -> str | None:
    here, there = (record.topic, record.key, record.type), (row.topic, row.key, row.type)
    return None if here == there else f"{here} on the topic, {there} in the outbox"


def _written_and_seen(
    world: World,
) -> tuple[dict[tuple[str, str], list[Hashable]], dict[tuple[str, str], list[Hashable]]]:
    """Event ids per (topic, key): as they were committed, and as they stand in the partition.

    A key's rows in one store follow each other by id. Where it has changed its store, what was
    written there was begun after everything that was written before.
    """
    written: defaultdict[tuple[str, str], list[Hashable]] = defaultdict(list)
    latest: dict[tuple[str, str, str], datetime] = {}
    begun: list[tuple[datetime, OutboxRow]] = []
    for row in sorted(world.outbox, key=lambda row: (row.store, row.id)):
        lane = (row.store, row.topic, row.key)
        latest[lane] = max(row.at, latest.get(lane, row.at))
        begun.append((latest[lane], row))
    for _, row in sorted(begun, key=lambda one: one[0]):  # stable: by id within a store
        written[row.topic, row.key].append(row.event_id)
    seen: defaultdict[tuple[str, str], list[Hashable]] = defaultdict(list)
    for record in sorted(world.topic, key=lambda one: (one.topic, one.partition, one.offset)):
        seen[record.topic, record.key].append(record.event_id)
    return dict(written), dict(seen)


def _ids(record: TopicRecord) -> tuple[str, str, str]:
    return (record.event_id, record.key, f"{record.topic}/{record.partition}/{record.offset}")
