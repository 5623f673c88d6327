"""What a leader knows of one follower, and how much it may send it.

States
    PROBE      where the logs agree is not known: one message at a time
    REPLICATE  known: messages follow each other without waiting, up to a window
    SNAPSHOT   the follower needs what is compacted away; entries wait until it has it

Invariant: match < next. match only grows while one leader leads.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from month5_kvstore.raft.records import Entry


class Phase(StrEnum):
    """How a follower is being brought along."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """match: the follower's log equals ours up to here. next: index of the next entry to send.

    active: heard from since the last quorum check. round: last heartbeat round it answered.
    """

    __slots__ = (
        "active",
        "inflight",
        "match",
        "next",
        "phase",
        "retry_round",
        "round",
        "snapshot_index",
        "waiting",
    )

    def __init__(self, next_index: int) -> None:
        self.match = 0
        self.next = next_index
        self.phase = Phase.PROBE
        self.active = False
        self.round = 0
        self.inflight: deque[int] = deque()
        self.snapshot_index = self.retry_round = 0
        self.waiting = False

    def may_send(self, inflight_max: int) -> bool:
        """Whether an AppendEntries may go out now."""
        if self.phase is Phase.REPLICATE:
            return len(self.inflight) < inflight_max
        return self.phase is Phase.PROBE and not self.waiting

    def sent(self, entries: tuple[Entry, ...]) -> None:
        """An AppendEntries went out. REPLICATE counts it as arrived until told otherwise."""
        if self.phase is Phase.PROBE:
            self.waiting = True
        elif entries:
            self.next = entries[-1].index + 1
            self.inflight.append(entries[-1].index)

    def sent_snapshot(self, index: int, retry_round: int) -> None:
        """A snapshot went out; entries wait for its answer, or for that heartbeat round."""
        self.phase = Phase.SNAPSHOT
        self.snapshot_index, self.retry_round = index, retry_round
        self.inflight.clear()

    def acknowledged(self, match: int) -> bool:
        """The follower holds everything up to `match`; tells whether that is news."""
        news = match > self.match
        if news:
            self.match = match
        self.next = max(self.next, match + 1)
        while self.inflight and self.inflight[0] <= match:
            self.inflight.popleft()
        if self.phase is Phase.PROBE or (
            self.phase is Phase.SNAPSHOT and self.match >= self.snapshot_index
        ):
            self.phase = Phase.REPLICATE
            self.waiting = False
            self.next = self.match + 1
        return news

    def refused(self, rejected: int, agreed: int) -> bool:
        """The entry at `rejected` did not fit; at `agreed` the logs may meet. False: old news."""
        if self.phase is Phase.REPLICATE:
            if rejected <= self.match:
                return False
            self.probe_from(self.match + 1)
            return True
        if self.phase is Phase.SNAPSHOT or self.next - 1 != rejected:
            return False
        self.probe_from(max(min(rejected, agreed + 1), self.match + 1))
        return True

    def probe_from(self, index: int) -> None:
        """Look again, one message at a time, whether the logs agree before `index`."""
        self.phase = Phase.PROBE
        self.next = index
        self.waiting = False
        self.inflight.clear()
