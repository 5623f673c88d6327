"""The log as one node sees it: entries in memory behind a snapshot, and four marks in it.

    base ── entries ──────────────────────────────► last_index
      base_index <= applied <= committed <= last_index;   persisted <= last_index

`base` is the last compacted place: its term is known, its entry is not. `persisted` is what the
driver has reported as being on disk. Configurations are found in the log itself and are in force
from the moment their entry stands in it, and no longer once it is cut off (section 6).

Invariant: a committed entry is never cut off. Whoever tries breaks Raft; the node stops.
"""

from __future__ import annotations

from collections.abc import Sequence

from month5_kvstore.raft.records import Configuration, Entry, EntryKind, Snapshot
from scalelab.errors import InvariantBroken


class RaftLog:
    """Entries base_index + 1 .. last_index. All indexes are positions in the whole log."""

    __slots__ = (
        "applied",
        "base_index",
        "base_term",
        "committed",
        "configurations",
        "entries",
        "incoming",
        "persisted",
        "snapshot",
    )

    def __init__(self, snapshot: Snapshot, entries: Sequence[Entry], commit: int) -> None:
        """What was on disk. Raises InvariantBroken if `entries` do not follow the snapshot."""
        self.snapshot = snapshot
        self.incoming: Snapshot | None = None
        self.base_index, self.base_term = snapshot.index, snapshot.term
        self.entries: list[Entry] = []
        self.configurations = [(snapshot.index, snapshot.configuration)]
        for entry in entries:
            if entry.index > snapshot.index:
                self.append(entry)
        self.persisted = self.last_index
        self.applied = snapshot.index
        self.committed = min(max(commit, snapshot.index), self.last_index)

    @property
    def last_index(self) -> int:
        """Index of the last entry; of the base if there is none."""
        return self.base_index + len(self.entries)

    @property
    def last_term(self) -> int:
        """Term of the last entry; of the base if there is none."""
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def configuration(self) -> Configuration:
        """The one in force: the latest in the log, committed or not."""
        return self.configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        """Where the configuration in force stands."""
        return self.configurations[-1][0]

    def configuration_at(self, index: int) -> Configuration:
        """The one in force at `index`, which must not be compacted away."""
        for found, configuration in reversed(self.configurations):
            if found <= index:
                return configuration
        raise InvariantBroken(f"the configuration at {index} is compacted away")

    def term_at(self, index: int) -> int | None:
        """Term of the entry at `index`; None if it is compacted away or not there yet."""
        offset = index - self.base_index
        if offset <= 0:
            return self.base_term if offset == 0 else None
        return self.entries[offset - 1].term if offset <= len(self.entries) else None

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as complete as this one (section 5.4.1)."""
        own = self.last_term
        return last_term > own or (last_term == own and last_index >= self.last_index)

    def slice(self, first: int, bytes_max: int, last: int | None = None) -> tuple[Entry, ...]:
        """Entries from `first` on, up to `last` and about `bytes_max` of data; one at least."""
        start = first - self.base_index - 1
        end = len(self.entries) if last is None else min(last - self.base_index, len(self.entries))
        size = 0
        for position in range(start, end):
            size += len(self.entries[position].data)
            if size > bytes_max and position > start:
                return tuple(self.entries[start:position])
        return tuple(self.entries[start:end])

    def append(self, entry: Entry) -> None:
        """Put one entry at the end; a configuration is in force at once."""
        if entry.index != self.last_index + 1:
            raise InvariantBroken(f"entry {entry.index} does not follow {self.last_index}")
        self.entries.append(entry)
        if entry.kind is EntryKind.CONFIGURATION:
            self.configurations.append((entry.index, Configuration.decode(entry.data)))

    def accept(self, entries: tuple[Entry, ...]) -> None:
        """Take a leader's entries: skip what is here, cut off what conflicts, append the rest.

        The caller has checked that the entry before the first one matches (section 5.3).
        """
        for entry in entries:
            term = self.term_at(entry.index)
            if term == entry.term:
                continue
            if term is not None:
                self._cut_from(entry.index)
            self.append(entry)

    def _cut_from(self, index: int) -> None:
        if index <= self.committed:
            raise InvariantBroken(
                f"committed entry {index} (commit index {self.committed}) would be overwritten"
            )
        del self.entries[index - self.base_index - 1 :]
        self.persisted = min(self.persisted, index - 1)
        while self.configurations[-1][0] >= index:
            self.configurations.pop()

    def last_at_or_below(self, index: int, term: int) -> tuple[int, int]:
        """The last place up to `index` whose term is at most `term`, with that term.

        Where two logs cannot agree later, the search may jump there (end of section 5.3).
        """
        index = min(index, self.last_index)
        while index > self.base_index:
            found = self.entries[index - self.base_index - 1].term
            if found <= term:
                return index, found
            index -= 1
        return self.base_index, self.base_term

    def commit_to(self, index: int) -> None:
        """Mark everything up to `index` as committed; never moves back."""
        if index <= self.committed:
            return
        if index > self.last_index:
            raise InvariantBroken(f"commit {index} is beyond the last entry {self.last_index}")
        self.committed = index

    def persisted_to(self, index: int, term: int) -> None:
        """The driver has entry (index, term) on disk; ignored if that was cut off meanwhile."""
        if index > self.persisted and self.term_at(index) == term:
            self.persisted = index

    def restore(self, snapshot: Snapshot) -> None:
        """Become the snapshot: a leader is too far ahead for entries alone (section 7)."""
        self.snapshot = self.incoming = snapshot
        self.base_index, self.base_term = snapshot.index, snapshot.term
        self.entries.clear()
        self.configurations = [(snapshot.index, snapshot.configuration)]
        self.committed = self.persisted = snapshot.index

    def compact(self, snapshot: Snapshot, keep: int) -> None:
        """Forget entries that `snapshot` covers, but for the last `keep` of them."""
        self.snapshot = snapshot
        base = max(self.base_index, min(snapshot.index - keep, self.persisted))
        term = self.term_at(base)
        if term is None:
            raise InvariantBroken(f"nothing is known at {base}")
        del self.entries[: base - self.base_index]
        self.base_index, self.base_term = base, term
        while len(self.configurations) > 1 and self.configurations[1][0] <= base:
            self.configurations.pop(0)
