"""A disk that forgets what was not synced: some first writes survive a crash, the rest is gone.

Writes wait in order until a sync has completed. At a crash a random number of them, from the
first on, had reached the disk by themselves; the one after is torn, which the checksum of a real
log finds out, so it counts as lost.
"""

from __future__ import annotations

from random import Random

from month5_kvstore.raft import Configuration, Entry, HardState, Snapshot


class Installed:
    """A snapshot that replaces the whole log."""

    __slots__ = ("snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


Write = Entry | HardState | Snapshot | Installed


class Disk:
    """What one node has on disk. The three fields are what a restart will find."""

    __slots__ = ("_waiting", "entries", "hard_state", "snapshot")

    def __init__(self, configuration: Configuration) -> None:
        self.hard_state = HardState()
        self.snapshot = Snapshot(0, 0, configuration, b"")
        self.entries: list[Entry] = []
        self._waiting: list[Write] = []

    def write(self, what: Write) -> None:
        """Put a write at the end of those that wait for a sync."""
        self._waiting.append(what)

    @property
    def waiting(self) -> int:
        """How many writes a sync begun now will make durable."""
        return len(self._waiting)

    def sync(self, count: int) -> None:
        """The first `count` waiting writes are durable now."""
        for what in self._waiting[:count]:
            self._settle(what)
        del self._waiting[:count]

    def crash(self, random: Random) -> tuple[int, int]:
        """Lose power: returns (writes that survived unsynced, writes lost)."""
        survived = random.randint(0, len(self._waiting))
        lost = len(self._waiting) - survived
        self.sync(survived)
        self._waiting.clear()
        return survived, lost

    def _settle(self, what: Write) -> None:
        if isinstance(what, Entry):
            first = self.entries[0].index if self.entries else what.index
            del self.entries[max(0, what.index - first) :]
            self.entries.append(what)
        elif isinstance(what, HardState):
            self.hard_state = what
        elif isinstance(what, Installed):
            self.snapshot = what.snapshot
            self.entries.clear()
        elif what.index > self.snapshot.index:
            self.snapshot = what
            self.entries = [entry for entry in self.entries if entry.index > what.index]
