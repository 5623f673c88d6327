"""Slot watch: replication slots that hold the log for somebody who may never come back. Pure.

Theory of operation
    A slot makes its primary keep log until the slot's consumer has taken it. A consumer that is
    gone fills the disk, unless `max_slot_wal_keep_size` lets the slot be lost first: then the
    disk is safe and the consumer must start from a new base backup. Both are events that a person
    must hear of before they happen. Slots carry no comment, so owners are written down in a table
    of the primary: whose it is, whom to ask, since when.

Invariants (tests cite them)
    I1  Every trouble that applies is named once a slot, the worst first.
    I2  An active slot with an owner, and little log kept, raises nothing.
    I3  A lost slot is always an error: its consumer cannot go on, whatever else is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Severity(IntEnum):
    """ERROR: something is lost or about to be. WARNING: somebody should look today."""

    WARNING = 1
    ERROR = 2


class SlotTrouble(StrEnum):
    """What can be wrong with a slot."""

    LOST = "lost"
    KEEPS_TOO_MUCH = "keeps_too_much"
    LEFT_BEHIND = "left_behind"
    NO_OWNER = "no_owner"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of pg_replication_slots. kept_bytes: log held back. inactive_s: None while active.

    wal_status: as the server says (`reserved`, `extended`, `unreserved`, `lost`). kept_max_bytes:
    what it may hold before the server lets it be lost, None without a limit.
    """

    name: str
    is_active: bool
    wal_status: str
    kept_bytes: int
    kept_max_bytes: int | None
    inactive_s: float | None


@dataclass(frozen=True, slots=True)
class SlotPolicy:
    """inactive_max_s: a consumer may be away so long. kept_share: of the limit, 0..1, or of
    kept_bytes where the server has no limit."""

    inactive_max_s: float = 300.0
    kept_share: float = 0.5
    kept_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class SlotAlert:
    """One trouble of one slot, and what to do about it."""

    slot: str
    owner: str | None
    trouble: SlotTrouble
    severity: Severity
    advice: str


def judge(
    slots: Sequence[Slot], owners: Mapping[str, str], policy: SlotPolicy
) -> tuple[SlotAlert, ...]:
    """Alerts, errors first, then by slot. owners: slot name to whom it belongs (I1, I2, I3)."""
    alerts = [alert for slot in slots for alert in _of_slot(slot, owners.get(slot.name), policy)]
    known = {slot.name for slot in slots}
    alerts += [
        SlotAlert(
            name,
            owner,
            SlotTrouble.MISSING,
            Severity.WARNING,
            f"{owner} has no slot: make it again, or strike the owner out",
        )
        for name, owner in owners.items()
        if name not in known
    ]
    return tuple(sorted(alerts, key=lambda alert: (-alert.severity, alert.slot, alert.trouble)))


def _of_slot(slot: Slot, owner: str | None, policy: SlotPolicy) -> list[SlotAlert]:
    def alert(trouble: SlotTrouble, severity: Severity, advice: str) -> SlotAlert:
        return SlotAlert(slot.name, owner, trouble, severity, advice)

    found: list[SlotAlert] = []
    limit = policy.kept_bytes
    if slot.kept_max_bytes is not None:
        limit = int(slot.kept_max_bytes * policy.kept_share)
    if slot.wal_status == "lost":
        advice = "its log is gone: drop the slot and make its consumer anew from a base backup"
        found.append(alert(SlotTrouble.LOST, Severity.ERROR, advice))
    elif slot.wal_status == "unreserved" or slot.kept_bytes > limit:
        advice = f"it holds {slot.kept_bytes} bytes of log: bring its consumer back, or drop it"
        found.append(alert(SlotTrouble.KEEPS_TOO_MUCH, Severity.ERROR, advice))
    if slot.inactive_s is not None and slot.inactive_s > policy.inactive_max_s:
        advice = f"nobody has come for {slot.inactive_s:.0f} s: bring it back, or drop the slot"
        found.append(alert(SlotTrouble.LEFT_BEHIND, Severity.WARNING, advice))
    if owner is None:
        advice = "nobody is written down for it: name an owner, or drop it"
        found.append(alert(SlotTrouble.NO_OWNER, Severity.WARNING, advice))
    return found
