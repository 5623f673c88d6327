"""What a node keeps on disk: log entries, the hard state, snapshots, and who belongs.

These are plain values. The log's driver writes them, the core reads them back at a start. Indexes
and terms are integers >= 1; 0 means "before the first".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scalelab.errors import CorruptData


class EntryKind(IntEnum):
    """What an entry's data means. The number stands in log files: never give one a new meaning."""

    COMMAND = 1
    """Bytes for the state machine."""

    CONFIGURATION = 2
    """An encoded `Configuration`, in force from the moment it is in the log (section 6)."""

    NOOP = 3
    """Empty: what a new leader commits first (section 8)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in the log. index: 1, 2, … without gap. term: of the leader that made it."""

    index: int
    term: int
    kind: EntryKind
    data: bytes


@dataclass(frozen=True, slots=True)
class HardState:
    """What a node must not forget: its term, its vote in it (0: none), and how far it knows the
    log committed. The commit index is a convenience; a lost one is learned again."""

    term: int = 0
    vote: int = 0
    commit: int = 0


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who belongs to the group. All three are sorted node ids (integers >= 1) without repeats.

    voters: count for elections and commits. outgoing: the voters of before, while a joint change
    is under way; then both majorities are needed. learners: receive the log, count for nothing.
    One that turns from voter to learner stands in `outgoing` and `learners` meanwhile.
    """

    voters: tuple[int, ...]
    outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()

    @property
    def joint(self) -> bool:
        """Whether a joint change is under way."""
        return bool(self.outgoing)

    @property
    def electorate(self) -> tuple[int, ...]:
        """Everyone whose vote counts, sorted."""
        if not self.outgoing:
            return self.voters
        return tuple(sorted({*self.voters, *self.outgoing}))

    @property
    def members(self) -> tuple[int, ...]:
        """Everyone the leader replicates to, itself included, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))

    def encode(self) -> bytes:
        """As an entry carries it: three lists of decimal ids, `1,2,3;;4`."""
        parts = (self.voters, self.outgoing, self.learners)
        return ";".join(",".join(map(str, part)) for part in parts).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """The value that `encode` wrote. Raises CorruptData for other bytes."""
        try:
            parts = [
                tuple(int(word) for word in part.split(",") if word)
                for part in data.decode("ascii").split(";")
            ]
            voters, outgoing, learners = parts
        except (ValueError, UnicodeDecodeError) as error:
            raise CorruptData(f"no configuration: {data[:60]!r}") from error
        decoded = cls(voters, outgoing, learners)
        if decoded.encode() != data:
            raise CorruptData(f"no configuration in its written form: {data[:60]!r}")
        return decoded


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine at `index`, in place of all entries up to it. term: of that entry.

    configuration: in force at that index; a snapshot without it forgets who may vote.
    """

    index: int
    term: int
    configuration: Configuration
    data: bytes
