"""Orders from a producer over outbox, relay, Kafka and consumer to their effects, each of them
killed by SIGKILL in turn: nothing is missing, doubled or out of order."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from month3_messaging.crash_points import (
    CONSUMER_POINTS,
    POLLING_POINTS,
    PRODUCER_POINTS,
    CrashPoint,
)
from month3_messaging.experiments.mortal_process import (
    TABLES,
    Bed,
    Role,
    consume_effectively_once,
    place_with_outbox,
    relay_by_polling,
)
from month3_messaging.experiments.mortals import KILLED, Mortals
from scalelab.clients.kafka import ensure_topics
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka
from tests.fixtures.tiers import Count

KEYS = 20
KINDS = ("producer", "relay", "broker", "consumer")
POISON_FREE_POINTS = tuple(
    point for point in CONSUMER_POINTS if point is not CrashPoint.CONSUMER_PASSED_ON
)


@dataclass(frozen=True)
class Way:
    """Who carries an order: a parent of processes for each part of the way."""

    bed: Bed
    runtime: Runtime
    kills: int
    producer: Mortals
    relay: Mortals
    consumer: Mortals

    def placed(self) -> dict[str, str]:
        """Key by order."""
        with psycopg.connect(self.bed.dsn) as conn:
            return {str(order): key for order, key in conn.execute("SELECT id, key FROM placed")}

    def effects(self) -> list[tuple[str, str, int]]:
        """Order, key and number of every effect, in the order in which they were made."""
        with psycopg.connect(self.bed.dsn) as conn:
            rows = conn.execute("SELECT event_id, key, number FROM effect ORDER BY id").fetchall()
        return [(str(order), key, number) for order, key, number in rows]

    def has_arrived(self) -> bool:
        """Whether every order that was placed has an effect."""
        return len({order for order, _, _ in self.effects()}) >= len(self.placed())

    def must_die(self, mortals: Mortals, role: Role, point: CrashPoint, passage: int = 1) -> None:
        code = mortals.run(role, point, passage)
        assert code == KILLED, f"the fault bit at {point}: {code}"


@pytest.fixture
def way(database_dsn: str, server_root: Path, count: Count) -> Iterator[Way]:
    """Tables, a Kafka that may be killed, and parents of processes, sized for this run."""
    kills = count(100, share=0.04)
    orders = count(30_000, share=0.01) // kills
    with psycopg.connect(database_dsn) as conn:
        conn.execute(TABLES.encode())
    with Runtime(server_root / "everywhere", private=True) as runtime, ExitStack() as stack:
        kafka = Kafka("kafka")
        runtime.start(kafka)
        asyncio.run(ensure_topics(kafka.bootstrap, {"orders": 3}))
        bed = Bed(database_dsn, kafka.bootstrap, "orders", "orders.group", orders=orders, keys=KEYS)
        yield Way(bed, runtime, kills, *(stack.enter_context(Mortals(bed)) for _ in range(3)))


def kill_one(way: Way, kind: str, turn: int) -> None:
    """Place the orders of a turn, and let one of the four die on the way."""
    if kind == "producer":
        point = PRODUCER_POINTS[turn % len(PRODUCER_POINTS)]
        way.must_die(way.producer, place_with_outbox, point, way.bed.orders)
    else:
        assert way.producer.run(place_with_outbox) == 0
    if kind == "relay":
        way.must_die(way.relay, relay_by_polling, POLLING_POINTS[turn % len(POLLING_POINTS)])
    if kind == "broker":
        way.relay.start(relay_by_polling)
        way.consumer.start(consume_effectively_once)
        way.runtime.kill("kafka")
        way.runtime.restart("kafka")
        for mortals in (way.relay, way.consumer):
            mortals.kill()
            assert mortals.end() == KILLED
    if kind == "consumer":
        way.relay.start(relay_by_polling)
        point = POISON_FREE_POINTS[turn % len(POISON_FREE_POINTS)]
        way.must_die(way.consumer, consume_effectively_once, point, 2)
        way.relay.kill()
        way.relay.end()


@pytest.mark.timeout(3600)
def test_kills_everywhere_lose_nothing_double_nothing_and_keep_each_key_in_order(
    way: Way,
) -> None:
    """30,000 orders and 100 kills with --nightly, spread over producer, relay, broker, consumer:
    0 missing, 0 doubled effects, 0 order inversions per key."""
    for turn in range(way.kills):
        kill_one(way, KINDS[turn % len(KINDS)], turn // len(KINDS))
    way.relay.start(relay_by_polling)
    way.consumer.run_until(consume_effectively_once, way.has_arrived)
    way.relay.kill()
    way.relay.end()
    placed, effects = way.placed(), way.effects()
    assert len(placed) >= way.kills * (way.bed.orders - 1)
    made = Counter(order for order, _, _ in effects)
    assert set(made) == set(placed), "no order is missing, and none that was rolled back is there"
    assert {order: times for order, times in made.items() if times > 1} == {}
    by_key: defaultdict[str, list[int]] = defaultdict(list)
    for _, key, number in effects:
        by_key[key].append(number)
    assert by_key == {key: list(range(len(numbers))) for key, numbers in by_key.items()}
