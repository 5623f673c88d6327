"""One queue for each key of a partition: which record may begin, and what may be committed.

Theory of operation
    Records come in the order of their offsets and are queued by key. The first of a key's queue may
    be in hand, the others wait for it; keys do not wait for each other. What is done out of order
    is remembered until everything before it is done: the position is the lowest offset that is not.
    A key in hand has a place, whether its record is being carried out or waits for its next try,
    and the places are bounded. When waiting keys have taken all of them, nothing else begins: so
    many keys that fail at once are no longer a matter of one key.

Invariants (tests cite them)
    K1  The position never passes a record that is not done.
    K2  At most one record of a key is in hand, the lowest of that key that is not done.
    K3  At most `places` records are in hand.
    K4  While a place is free, no record waits but behind one of its own key.

Absent on purpose: I/O, time, attempts.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from scalelab.clients.kafka_records import Record


class KeyQueues:
    """The records of one partition between fetch and commit. places: see K3, >= 1."""

    def __init__(self, first_offset: int, *, places: int) -> None:
        self._places = places
        self._queues: dict[str | None, deque[Record]] = {}
        self._heads: list[int] = []
        self._key_of: dict[int, str | None] = {}
        self._in_hand: set[int] = set()
        self._order: deque[int] = deque()
        self._next = first_offset

    @property
    def position(self) -> int:
        """The next offset to commit."""
        return self._order[0] if self._order else self._next

    @property
    def held(self) -> int:
        """Records that are here and not done."""
        return len(self._key_of)

    @property
    def ahead(self) -> int:
        """Records that are done, but behind one that is not: a crash repeats them."""
        return len(self._order) - len(self._key_of)

    def add(self, record: Record) -> None:
        """Queue the next record of the partition; offsets rise."""
        queue = self._queues.setdefault(record.key, deque())
        queue.append(record)
        self._key_of[record.offset] = record.key
        self._order.append(record.offset)
        self._next = record.offset + 1
        if len(queue) == 1:
            heappush(self._heads, record.offset)

    def take(self) -> list[Record]:
        """What may begin now, lowest offset first; it is in hand from here on."""
        taken: list[Record] = []
        while self._heads and len(self._in_hand) < self._places:
            offset = heappop(self._heads)
            self._in_hand.add(offset)
            taken.append(self._queues[self._key_of[offset]][0])
        return taken

    def done(self, offset: int) -> None:
        """A record in hand is dealt with; its key goes on. Raises KeyError for any other."""
        self._in_hand.remove(offset)
        key = self._key_of.pop(offset)
        queue = self._queues[key]
        queue.popleft()
        if queue:
            heappush(self._heads, queue[0].offset)
        else:
            del self._queues[key]
        while self._order and self._order[0] not in self._key_of:
            self._order.popleft()
