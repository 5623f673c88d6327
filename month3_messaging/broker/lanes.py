"""A member's share of a partitioned log, read as a queue: who has which message, what may commit.

Theory of operation
    A log knows one number per partition and group: everything below it is done. A queue knows each
    message. A `Shelf` stands between them for one partition: it hands out records, takes acks and
    nacks in any order, and tells the number that may be stored: the lowest that is not done.

Invariants (tests cite them)
    L1  `position` never passes a record that is not done.
    L2  ordered: at most one record is in hand, the lowest that is not done.
    L3  A nacked record is handed out before any that was never handed out.
    L4  After k nacks the next delivery of a record carries the count k + 1.

Absent on purpose: I/O, time. The counts live with the member: they start anew elsewhere.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from scalelab.clients.kafka_records import Record


class Shelf:
    """The records of one partition between fetch and commit. ordered: see L2."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._waiting: list[int] = []
        self._records: dict[int, Record] = {}
        self._in_hand: set[int] = set()
        self._nacks: dict[int, int] = {}
        self._next: int | None = None

    @property
    def held(self) -> int:
        """Records here that are not done."""
        return len(self._records)

    @property
    def position(self) -> int | None:
        """The next offset to read after everything that is done; None before the first record."""
        return min(self._records, default=self._next)

    def add(self, records: Iterable[Record]) -> None:
        """Take what was fetched; offsets rise. What is here already is not taken twice."""
        for record in records:
            if self._next is None or record.offset >= self._next:
                self._records[record.offset] = record
                self._waiting.append(record.offset)
                self._next = record.offset + 1

    def take(self, most: int) -> list[tuple[Record, int]]:
        """Hand out up to `most` records with their delivery counts."""
        if self._ordered:
            most = min(most, 1 - len(self._in_hand))
        taken = self._waiting[: max(0, most)]
        del self._waiting[: len(taken)]
        self._in_hand.update(taken)
        return [(self._records[offset], self._nacks.get(offset, 0) + 1) for offset in taken]

    def done(self, offset: int) -> bool:
        """The record is dealt with. False if it was not in hand: answered before, or another's."""
        if offset not in self._in_hand:
            return False
        self._in_hand.remove(offset)
        del self._records[offset]
        self._nacks.pop(offset, None)
        return True

    def again(self, offset: int) -> bool:
        """The record is to be handed out again, before later ones. False if it was not in hand."""
        if offset not in self._in_hand:
            return False
        self._in_hand.remove(offset)
        self._nacks[offset] = self._nacks.get(offset, 0) + 1
        insort(self._waiting, offset)
        return True
