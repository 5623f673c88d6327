"""How often do the orders of a service and the events about them disagree after a crash?

Producers place orders and kill themselves (SIGKILL) at a named point between the commit and the
send; the one after them goes on. Three ways to tell: commit, then send; send, then commit; a row in
an outbox, whose relays are killed as well. Afterwards every order must have its event, and every
event its order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg

from month3_messaging.crash_points import POLLING_POINTS, CrashPoint
from month3_messaging.experiments.messaging_bed import Messaging, start_messaging
from month3_messaging.experiments.mortal_process import (
    Role,
    commit_then_send,
    place_with_outbox,
    relay_by_log,
    relay_by_polling,
    send_then_commit,
)
from month3_messaging.experiments.mortals import KILLED, Mortals
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

CRASHES_QUICK = 20
CRASHES_FULL = 1000
_ORDERS_A_LIFE = 8

_DUAL_POINTS: dict[Role, tuple[CrashPoint, ...]] = {
    commit_then_send: (
        CrashPoint.PRODUCER_BEFORE_COMMIT,
        CrashPoint.PRODUCER_AFTER_COMMIT,
        CrashPoint.OUTBOX_SENT,
    ),
    send_then_commit: (CrashPoint.PRODUCER_BEFORE_COMMIT, CrashPoint.PRODUCER_AFTER_COMMIT),
}
_PRODUCER_POINTS = (CrashPoint.PRODUCER_BEFORE_COMMIT, CrashPoint.PRODUCER_AFTER_COMMIT)


@dataclass(frozen=True, slots=True)
class Books:
    """What was found after `crashes` kills. untold: orders without an event. unfounded: events
    without an order. copies: events beyond the first copy. orders: how many were placed."""

    crashes: int
    orders: int
    untold: int
    unfounded: int
    copies: int

    @property
    def per_1000(self) -> float:
        """Disagreements per 1,000 crashes."""
        return (self.untold + self.unfounded) * 1000 / self.crashes


def run(lab: Lab) -> Result:
    """The same number of kills for each arm, at points drawn from the same generator."""
    messaging = start_messaging(lab.runtime, "dual-write")
    crashes = CRASHES_QUICK if lab.quick else CRASHES_FULL
    generator = lab.random()
    books: dict[str, Books] = {}
    for name, producer in (
        ("commit, then send", commit_then_send),
        ("send, then commit", send_then_commit),
    ):
        books[name] = _dual_write(messaging, producer, crashes, generator)
        lab.note(f"{name}: {books[name]}")
    for name, relay in (
        ("outbox, polling relay", relay_by_polling),
        ("outbox, log relay", relay_by_log),
    ):
        books[name] = _outbox(messaging, relay, crashes, generator)
        lab.note(f"{name}: {books[name]}")
    return _judged(books)


def _dual_write(
    messaging: Messaging, producer: Role, crashes: int, generator: random.Random
) -> Books:
    bed = messaging.bed(producer.__name__)
    points = _DUAL_POINTS[producer]
    with Mortals(replace(bed, orders=_ORDERS_A_LIFE)) as mortals:
        for turn in range(crashes):
            passage = generator.randint(1, _ORDERS_A_LIFE)
            _must_die(mortals.run(producer, points[turn % len(points)], passage))
    return _compare(messaging, bed.dsn, bed.topic, crashes)


def _outbox(messaging: Messaging, relay: Role, crashes: int, generator: random.Random) -> Books:
    """Kills take turns: a producer, then a relay that has something to carry."""
    bed = messaging.bed(f"outbox_{relay.__name__}")
    with Mortals(replace(bed, orders=_ORDERS_A_LIFE)) as mortals:
        for turn in range(crashes // 2):
            passage = generator.randint(1, _ORDERS_A_LIFE)
            _must_die(mortals.run(place_with_outbox, _PRODUCER_POINTS[turn % 2], passage))
            mortals.run(place_with_outbox)
            _must_die(mortals.run(relay, POLLING_POINTS[turn % len(POLLING_POINTS)]))
        with psycopg.connect(bed.dsn, autocommit=True) as conn:
            mortals.run_until(relay, lambda: _is_clear(conn))
    return _compare(messaging, bed.dsn, bed.topic, crashes)


def _must_die(code: int) -> None:
    if code != KILLED:
        raise RuntimeError(f"a process that was to be killed ended with {code}")


def _is_clear(conn: psycopg.Connection) -> bool:
    row = conn.execute("SELECT count(*) FROM outbox WHERE sent_at IS NULL").fetchone()
    return row is not None and row[0] == 0


def _compare(messaging: Messaging, dsn: str, topic: str, crashes: int) -> Books:
    with psycopg.connect(dsn) as conn:
        orders = {str(row[0]) for row in conn.execute("SELECT id FROM placed").fetchall()}
    told = asyncio.run(messaging.ids_on(topic))
    return Books(
        crashes,
        len(orders),
        len(orders - set(told)),
        len(set(told) - orders),
        _copies(told),
    )


def _copies(ids: Sequence[str]) -> int:
    return len(ids) - len(set(ids))


def _judged(books: dict[str, Books]) -> Result:
    first, second = books["commit, then send"], books["send, then commit"]
    outboxes = [found for name, found in books.items() if name.startswith("outbox")]
    shape = (
        Claim(
            "Committing first leaves orders untold, and tells of none that does not exist.",
            first.untold > 0 and first.unfounded == 0,
            f"{first.untold} orders without an event, {first.unfounded} events without an order",
        ),
        Claim(
            "Sending first tells of orders that do not exist, and leaves no order untold.",
            second.unfounded > 0 and second.untold == 0,
            f"{second.unfounded} events without an order, {second.untold} orders without an event",
        ),
        Claim(
            "With an outbox, orders and events agree, whichever relay is killed.",
            all(found.untold == found.unfounded == 0 for found in outboxes),
            ", ".join(f"{found.per_1000:.0f} per 1,000 crashes" for found in outboxes),
        ),
        Claim(
            "The price is copies: relays killed between send and mark send again.",
            all(found.copies > 0 for found in outboxes) and first.copies == second.copies == 0,
            ", ".join(f"{name}: {found.copies}" for name, found in books.items()),
        ),
    )
    arms = tuple(
        Arm(
            name,
            "treatment" if name.startswith("outbox") else "control",
            {
                "crashes": found.crashes,
                "orders": found.orders,
                "untold_orders": found.untold,
                "unfounded_events": found.unfounded,
                "disagreements_per_1000": round(found.per_1000),
                "copies": found.copies,
            },
            ((0.0, found.per_1000),),
        )
        for name, found in books.items()
    )
    plot = Plot(Axis(""), Axis("disagreements per 1,000 crashes"), "bars")
    return Result(
        arms,
        shape,
        plot,
        notes=(
            "Every crash is at a named point around the commit and the send, so the share says how "
            "the points were chosen; a crash at a random instant hits the gap more rarely.",
            "In the arms with an outbox half of the crashes are a producer's and half a relay's.",
            "A relay that starts on a backlog takes it off the table, the log relay too; deaths"
            " while it follows the log are in "
            "tests/integration/month3/outbox/test_relay_crashes.py.",
        ),
    )


EXPERIMENT = Experiment(
    slug="outbox-vs-dual-write",
    question="How often do a database and a topic disagree after a crash, and what ends that?",
    varied="how an order's event gets to the topic; for the outbox, which relay carries it",
    fixed="number of kills, orders a life, the points around commit and send",
    run=run,
    topics=("P7.3", "P10.2", "P2.1"),
    needs=("postgres", "kafka"),
)
