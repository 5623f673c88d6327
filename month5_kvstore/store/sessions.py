"""Sessions: a command that is sent again is answered again, not carried out again.

A client opens a session, numbers its commands and says up to where it has the answers. The store
keeps the others, refusals too, and gives them back to whoever repeats a number. Only the state
machine can do this: it is the one place that sees every command, in one order, on all nodes.

Invariants (tests cite them)
    X1  A (session, sequence) is carried out at most once while its session lives.
    X2  After its session ended it is refused, never carried out.

Source: Ongaro 2014, thesis, 6.3; differs in: commands of a session may overtake each other.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from month5_kvstore.store.commands import Answer, Envelope
from month5_kvstore.store.errors import (
    SequenceForgotten,
    SessionMissing,
    TooManyUnacknowledged,
)

ANSWERS_MAX = 1024


@dataclass(slots=True)
class Session:
    """One client. low: all answers below are forgotten. answers: by sequence."""

    ttl_ms: int
    deadline_ms: int
    low: int = 1
    answers: dict[int, Answer] = field(default_factory=dict[int, Answer])


class Sessions:
    """All sessions of a store."""

    __slots__ = ("_due", "last_id", "table")

    def __init__(self) -> None:
        self.table: dict[int, Session] = {}
        self.last_id = 0
        self._due: list[tuple[int, int]] = []

    def open(self, ttl_ms: int, now_ms: int) -> int:
        """A session under an id that was never used before."""
        self.last_id += 1
        self.restore(self.last_id, Session(ttl_ms, now_ms + ttl_ms))
        return self.last_id

    def restore(self, number: int, session: Session) -> None:
        """Put a session back as a snapshot tells of it."""
        self.table[number] = session
        heapq.heappush(self._due, (session.deadline_ms, number))

    def recall(self, envelope: Envelope, now_ms: int) -> Answer | None:
        """The answer given before; None if the command is new and may be carried out.

        Raises SessionMissing, SequenceForgotten, TooManyUnacknowledged (X1, X2).
        """
        session = self.table.get(envelope.session)
        if session is None:
            raise SessionMissing(f"session {envelope.session} has ended")
        session.deadline_ms = now_ms + session.ttl_ms
        if envelope.acknowledged_below > session.low:
            session.low = envelope.acknowledged_below
            for sequence in [one for one in session.answers if one < session.low]:
                del session.answers[sequence]
        if envelope.sequence < session.low:
            raise SequenceForgotten(f"the answer to {envelope.sequence} was acknowledged")
        known = session.answers.get(envelope.sequence)
        if known is None and len(session.answers) >= ANSWERS_MAX:
            raise TooManyUnacknowledged(f"{ANSWERS_MAX} answers wait to be acknowledged")
        return known

    def remember(self, envelope: Envelope, answer: Answer) -> None:
        """Keep the answer of a command that was carried out just now."""
        self.table[envelope.session].answers[envelope.sequence] = answer

    @property
    def next_deadline_ms(self) -> int | None:
        """When a session may end at the earliest; one that was used since ends later."""
        return self._due[0][0] if self._due else None

    def expire(self, now_ms: int) -> None:
        """End the sessions that nobody used for their time to live."""
        while self._due and self._due[0][0] <= now_ms:
            _, number = heapq.heappop(self._due)
            session = self.table.get(number)
            if session is None:
                continue
            if session.deadline_ms <= now_ms:
                del self.table[number]
            else:
                heapq.heappush(self._due, (session.deadline_ms, number))
