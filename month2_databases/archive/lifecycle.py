"""Lifecycle: what becomes of a stored file, from readable to restore-first to gone.

    cold ──archive_after──► archived ──expire_after──► expired
                              │    ▲
                       restore│    │restored_until
                              ▼    │
                      being restored ──ready_at──► readable again

Theory of operation
    An archive tier sells cheap storage for slow reading: a file in it cannot be read at all. Who
    wants to read asks for a restore, waits for the first byte (minutes to half a day, by what is
    paid), and gets a readable copy for some days. The rules below decide what is due; whoever runs
    them does it. All instants are passed in.

Invariants (tests cite them)
    I1  `due` never skips a tier: cold → archived → expired, each at its own age.
    I2  Nothing readable is refused and nothing archived is read: `is_readable` is the one judge.
    I3  A restore that is under way or still readable is not taken back by archiving; expiry, which
        is a promise to somebody else, does.

Absent on purpose: legal hold, and rules by size or by tag. Source: the tiers of Amazon S3 Glacier
(retrieval options, restored copies with an end); differs in: one rule set for all files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from scalelab.errors import Conflict, InvalidInput


class Tier(StrEnum):
    """Where a file is. EXPIRED: nowhere; its counts are still known."""

    COLD = "cold"
    ARCHIVED = "archived"
    EXPIRED = "expired"


class Due(StrEnum):
    """What the rules ask for now."""

    NOTHING = "nothing"
    ARCHIVE = "archive"
    FINISH_RESTORE = "finish restore"
    END_RESTORE = "end restore"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Rules:
    """Ages at which a file changes its tier, counted from the end of its month."""

    archive_after: timedelta = timedelta(days=365)
    expire_after: timedelta = timedelta(days=365 * 7)

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.archive_after < self.expire_after:
            raise InvalidInput("expiry comes after archiving", field="expire_after")


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore that was asked for. is_done: the readable copy is there."""

    ready_at: datetime
    until: datetime
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one file stands. month_end: from which its age counts."""

    tier: Tier
    month_end: datetime
    restore: Restore | None = None


def due(placement: Placement, rules: Rules, now: datetime) -> Due:
    """The one next thing to do for a file; ask again after it is done."""
    age = now - placement.month_end
    if placement.tier is Tier.EXPIRED:
        return Due.NOTHING
    if placement.tier is Tier.COLD:  # also one that is old enough to expire: no tier is skipped
        return Due.ARCHIVE if age >= rules.archive_after else Due.NOTHING
    if age >= rules.expire_after:
        return Due.EXPIRE
    restore = placement.restore
    if restore is None or (not restore.is_done and now < restore.ready_at):
        return Due.NOTHING
    if now >= restore.until:
        return Due.END_RESTORE
    return Due.NOTHING if restore.is_done else Due.FINISH_RESTORE


def is_readable(placement: Placement, now: datetime) -> bool:
    """Whether its bytes can be had at `now`."""
    if placement.tier is Tier.COLD:
        return True
    restore = placement.restore
    return (
        placement.tier is Tier.ARCHIVED
        and restore is not None
        and restore.is_done
        and now < restore.until
    )


def ask_restore(
    placement: Placement, *, first_byte: timedelta, keep: timedelta, now: datetime
) -> Placement:
    """The placement once a restore is asked for; one under way keeps its time, and lives longer.

    Raises Conflict `object_expired`, `object_not_archived`; InvalidInput on a span below zero.
    """
    if first_byte < timedelta(0) or keep <= timedelta(0):
        raise InvalidInput("a restore takes and lasts some time", field="keep")
    if placement.tier is Tier.EXPIRED:
        raise Conflict("what has expired cannot be restored", code="object_expired")
    if placement.tier is Tier.COLD:
        raise Conflict("this file can be read as it is", code="object_not_archived")
    known = placement.restore
    if known is not None and now < known.until:
        ready_at = known.ready_at
        until = max(known.until, max(now, ready_at) + keep)
        return replace(placement, restore=replace(known, until=until))
    ready_at = now + first_byte
    return replace(placement, restore=Restore(ready_at, ready_at + keep))
