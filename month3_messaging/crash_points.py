"""Where a process of the event path may die, by name, in one list.

    producer    BEGIN · effect and outbox row · [before_commit] COMMIT [after_commit]
    relay       (slot [slot_made] · unsent rows [swept]) · read [read] · send, wave by wave
                [wave_sent] … [sent] · mark [marked] · (confirm to the slot [confirmed])
    consumer    [received] · BEGIN · inbox row and effect [before_commit] COMMIT [handled] ·
                (next topic [passed_on]) · commit of the offset [committed]
    desk        letter from Kafka · row [parked] · commit of the offset; decision and audit
                [before_commit] COMMIT [after_commit] · send [sent] · mark [marked]
    projector   records from Kafka [read] · BEGIN · views and offsets [before_commit] COMMIT
                [folded] · BEGIN · view's text [before_swap] COMMIT [swapped] · old table [dropped]

Steps in round brackets are not taken by every process. What must hold after a death at any point:
every committed event is on its topic, the first copies of a key in commit order, nothing that was
rolled back is, and every effect is there once; readers of the order view are shown no less than
before.
"""

from __future__ import annotations

from enum import StrEnum


class CrashPoint(StrEnum):
    """A named point; the value is what a process passes to its `reached` hook."""

    PRODUCER_BEFORE_COMMIT = "producer.before_commit"
    PRODUCER_AFTER_COMMIT = "producer.after_commit"
    OUTBOX_SLOT_MADE = "outbox.slot_made"
    OUTBOX_SWEPT = "outbox.swept"
    OUTBOX_READ = "outbox.read"
    OUTBOX_WAVE_SENT = "outbox.wave_sent"
    OUTBOX_SENT = "outbox.sent"
    OUTBOX_MARKED = "outbox.marked"
    OUTBOX_CONFIRMED = "outbox.confirmed"
    CONSUMER_RECEIVED = "consumer.received"
    CONSUMER_BEFORE_COMMIT = "consumer.before_commit"
    CONSUMER_HANDLED = "consumer.handled"
    CONSUMER_PASSED_ON = "consumer.passed_on"
    CONSUMER_COMMITTED = "consumer.committed"
    DESK_PARKED = "desk.parked"
    DESK_BEFORE_COMMIT = "desk.before_commit"
    DESK_AFTER_COMMIT = "desk.after_commit"
    DESK_SENT = "desk.sent"
    DESK_MARKED = "desk.marked"
    PROJECTOR_READ = "projector.read"
    PROJECTOR_BEFORE_COMMIT = "projector.before_commit"
    PROJECTOR_FOLDED = "projector.folded"
    PROJECTOR_BEFORE_SWAP = "projector.before_swap"
    PROJECTOR_SWAPPED = "projector.swapped"
    PROJECTOR_DROPPED = "projector.dropped"


PRODUCER_POINTS = (CrashPoint.PRODUCER_BEFORE_COMMIT, CrashPoint.PRODUCER_AFTER_COMMIT)
POLLING_POINTS = (
    CrashPoint.OUTBOX_READ,
    CrashPoint.OUTBOX_WAVE_SENT,
    CrashPoint.OUTBOX_SENT,
    CrashPoint.OUTBOX_MARKED,
)
LOG_POINTS = (
    CrashPoint.OUTBOX_SLOT_MADE,
    CrashPoint.OUTBOX_SWEPT,
    *POLLING_POINTS,
    CrashPoint.OUTBOX_CONFIRMED,
)
CONSUMER_POINTS = (
    CrashPoint.CONSUMER_RECEIVED,
    CrashPoint.CONSUMER_BEFORE_COMMIT,
    CrashPoint.CONSUMER_HANDLED,
    CrashPoint.CONSUMER_PASSED_ON,
    CrashPoint.CONSUMER_COMMITTED,
)
DESK_POINTS = (
    CrashPoint.DESK_PARKED,
    CrashPoint.DESK_BEFORE_COMMIT,
    CrashPoint.DESK_AFTER_COMMIT,
    CrashPoint.DESK_SENT,
    CrashPoint.DESK_MARKED,
)
PROJECTOR_POINTS = (
    CrashPoint.PROJECTOR_READ,
    CrashPoint.PROJECTOR_BEFORE_COMMIT,
    CrashPoint.PROJECTOR_FOLDED,
    CrashPoint.PROJECTOR_BEFORE_SWAP,
    CrashPoint.PROJECTOR_SWAPPED,
    CrashPoint.PROJECTOR_DROPPED,
)


def pass_by(_point: str) -> None:
    """The `reached` hook of a process that nobody wants to crash."""
