"""Leases: keys that vanish unless somebody keeps them. Time is the log's (see clock in store.py).

Invariants (tests cite them)
    E1  A lease ends in the order of (deadline, id), at the first entry whose time reaches it.
    E2  A key hangs on the lease of its newest version and on no other.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from month5_kvstore.store.errors import LeaseExists, LeaseMissing


@dataclass(slots=True)
class Lease:
    """ttl_ms: as granted. deadline_ms: on the log's clock. keys: that hang on it."""

    ttl_ms: int
    deadline_ms: int
    keys: set[bytes] = field(default_factory=set[bytes])


class Leases:
    """All leases of a store, and the order in which they end."""

    __slots__ = ("_due", "last_id", "table")

    def __init__(self) -> None:
        self.table: dict[int, Lease] = {}
        self.last_id = 0
        self._due: list[tuple[int, int]] = []

    def grant(self, wanted: int, ttl_ms: int, now_ms: int) -> int:
        """A new lease; returns its id. Raises LeaseExists."""
        if wanted in self.table:
            raise LeaseExists(f"lease {wanted} is in use")
        lease = wanted
        if not lease:
            self.last_id += 1
            while self.last_id in self.table:
                self.last_id += 1
            lease = self.last_id
        self.restore(lease, ttl_ms, now_ms + ttl_ms)
        return lease

    def restore(self, lease: int, ttl_ms: int, deadline_ms: int) -> None:
        """Put a lease back as a snapshot tells of it."""
        self.table[lease] = Lease(ttl_ms, deadline_ms)
        heapq.heappush(self._due, (deadline_ms, lease))

    def get(self, lease: int) -> Lease:
        """Raises LeaseMissing."""
        found = self.table.get(lease)
        if found is None:
            raise LeaseMissing(f"lease {lease} has ended, or never was")
        return found

    def keep(self, lease: int, now_ms: int) -> Lease:
        """Begin its time anew. Raises LeaseMissing."""
        found = self.get(lease)
        found.deadline_ms = now_ms + found.ttl_ms
        heapq.heappush(self._due, (found.deadline_ms, lease))
        return found

    def move(self, key: bytes, old: int, new: int) -> None:
        """A key hangs on another lease now; 0 for none (E2)."""
        if old == new:
            return
        if old in self.table:
            self.table[old].keys.discard(key)
        if new:
            self.table[new].keys.add(key)

    def end(self, lease: int) -> list[bytes]:
        """Take a lease away; returns the keys that hung on it, sorted. Raises LeaseMissing."""
        keys = sorted(self.get(lease).keys)
        del self.table[lease]
        return keys

    def next_due(self, now_ms: int) -> int | None:
        """The lease that has to end next at `now_ms`, or None (E1)."""
        deadline_ms = self.next_deadline_ms
        if deadline_ms is None or deadline_ms > now_ms:
            return None
        return self._due[0][1]

    @property
    def next_deadline_ms(self) -> int | None:
        """When the next lease ends. Deadlines that were moved since are thrown away."""
        while self._due:
            deadline_ms, lease = self._due[0]
            found = self.table.get(lease)
            if found is not None and found.deadline_ms == deadline_ms:
                return deadline_ms
            heapq.heappop(self._due)
        return None
