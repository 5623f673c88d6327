"""What the log knows of each group: where its live entries lie, and what may be written next.

A group needs a segment as long as one of its live entries (behind its snapshot, not replaced) lies
there. Hard states and snapshot marks need none: every segment begins with the latest of all groups.

Invariants (tests cite them)
    T1  A group's live entries have every index from behind its snapshot to the last, once.
    T2  What was committed is never replaced; terms and commit never fall; a term has one vote.
    T3  A refused submission changes nothing.
    T4  The oldest segment needed never decreases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from month5_kvstore.log.records import (
    Record,
    SnapshotMark,
    SnapshotTaken,
    StateChanged,
    encode,
    encode_entry,
)
from month5_kvstore.raft import Entry, HardState
from scalelab.errors import InvariantBroken

_NO_STATE = HardState()


@dataclass(frozen=True, slots=True)
class Submission:
    """What one group wants on disk in one step. In this order: snapshot, entries, hard state."""

    group: int
    entries: Sequence[Entry] = ()
    hard_state: HardState | None = None
    snapshot: SnapshotMark | None = None

    def encode(self) -> bytes:
        """Its records. Raises InvalidInput for an entry that is too large."""
        parts: list[bytes] = []
        if self.snapshot is not None:
            parts.append(encode(SnapshotTaken(self.group, self.snapshot)))
        parts += [encode_entry(self.group, entry) for entry in self.entries]
        if self.hard_state is not None:
            parts.append(encode(StateChanged(self.group, self.hard_state)))
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class GroupTrail:
    """One group. last_index: of its log, its snapshot's if nothing follows; 0 for an empty one.

    spans: (segment, highest live index there), rising in both; empty without live entries.
    """

    hard_state: HardState = _NO_STATE
    snapshot: SnapshotMark | None = None
    last_index: int = 0
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def snapshot_index(self) -> int:
        """0 without a snapshot."""
        return 0 if self.snapshot is None else self.snapshot.index

    def with_entries(self, first: int, last: int, segment: int) -> GroupTrail:
        """Entries first..last are in `segment` now; those from `first` on elsewhere are void."""
        spans = self.spans
        if spans and spans[-1][0] == segment and first > spans[-1][1]:
            return replace(self, last_index=last, spans=(*spans[:-1], (segment, last)))
        kept: list[tuple[int, int]] = []
        for where, highest in spans:
            if where == segment:
                continue
            below = kept[-1][1] if kept else self.snapshot_index
            if min(highest, first - 1) > below:
                kept.append((where, min(highest, first - 1)))
        return replace(self, last_index=last, spans=(*kept, (segment, last)))

    def with_snapshot(self, mark: SnapshotMark) -> GroupTrail:
        """The mark is in place of all entries up to its index, or of all if it resets."""
        if mark.resets:
            return replace(self, snapshot=mark, last_index=mark.index, spans=())
        live = tuple(span for span in self.spans if span[1] > mark.index)
        return replace(self, snapshot=mark, last_index=max(self.last_index, mark.index), spans=live)

    def records(self, group: int) -> list[Record]:
        """What a new segment begins with, so that older ones are not needed for it."""
        found: list[Record] = []
        if self.snapshot is not None:
            found.append(SnapshotTaken(group, replace(self.snapshot, resets=False)))
        if self.hard_state != _NO_STATE:
            found.append(StateChanged(group, self.hard_state))
        return found


def follow(trail: GroupTrail, submission: Submission, segment: int) -> GroupTrail:
    """The trail once `submission` lies in `segment`. Raises InvariantBroken (T1, T2, T3)."""
    name = f"group {submission.group}"
    if submission.snapshot is not None:
        trail = _after_snapshot(name, trail, submission.snapshot)
    if submission.entries:
        trail = _after_entries(name, trail, submission.entries, segment)
    if submission.hard_state is not None:
        trail = _after_state(name, trail, submission.hard_state)
    return trail


def _after_snapshot(name: str, trail: GroupTrail, mark: SnapshotMark) -> GroupTrail:
    if mark.index <= trail.snapshot_index:
        raise InvariantBroken(f"{name}: snapshot {mark.index} is behind {trail.snapshot_index}")
    if not mark.resets and mark.index > trail.last_index:
        raise InvariantBroken(f"{name}: snapshot {mark.index} is past the end {trail.last_index}")
    return trail.with_snapshot(mark)


def _after_entries(
    name: str, trail: GroupTrail, entries: Sequence[Entry], segment: int
) -> GroupTrail:
    first, last = entries[0].index, entries[-1].index
    if first > trail.last_index + 1:
        raise InvariantBroken(f"{name}: entry {first} leaves a gap behind {trail.last_index}")
    settled = max(trail.hard_state.commit, trail.snapshot_index)
    if first <= settled:
        raise InvariantBroken(f"{name}: entry {first} would replace a committed one ({settled})")
    if last - first + 1 != len(entries) or any(
        entry.index != first + offset for offset, entry in enumerate(entries)
    ):
        raise InvariantBroken(f"{name}: entries {first}..{last} are not in a row")
    return trail.with_entries(first, last, segment)


def _after_state(name: str, trail: GroupTrail, state: HardState) -> GroupTrail:
    old = trail.hard_state
    if state.term < old.term or state.commit < old.commit:
        raise InvariantBroken(f"{name}: {state} falls behind {old}")
    if state.term == old.term and old.vote not in (0, state.vote):
        raise InvariantBroken(f"{name}: a second vote in term {state.term}: {state}, had {old}")
    if state.commit > trail.last_index:
        raise InvariantBroken(f"{name}: commit {state.commit} is past {trail.last_index}")
    return replace(trail, hard_state=state)


@dataclass(slots=True)
class Ledger:
    """All groups' trails."""

    trails: dict[int, GroupTrail] = field(default_factory=dict)

    def get(self, group: int, staged: Mapping[int, GroupTrail]) -> GroupTrail:
        """As it is with what is staged on top."""
        return staged.get(group) or self.trails.get(group) or GroupTrail()

    def oldest_needed(self, current: int) -> int:
        """The oldest segment with a live entry, or `current` (T4)."""
        firsts = [trail.spans[0][0] for trail in self.trails.values() if trail.spans]
        return min(firsts, default=current)

    def pinning(self, segment: int) -> list[int]:
        """Groups with live entries in `segment` or before it: a snapshot of each lets it go."""
        return sorted(
            group
            for group, trail in self.trails.items()
            if trail.spans and trail.spans[0][0] <= segment
        )

    def head_records(self) -> Iterable[Record]:
        """Snapshot marks and hard states of all groups, in order."""
        for group in sorted(self.trails):
            yield from self.trails[group].records(group)
