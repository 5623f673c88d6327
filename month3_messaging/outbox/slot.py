"""The relay's replication slot: what may be wrong with it. Pure.

Theory of operation
    A slot makes the server keep its log until the relay has taken it. A relay that is gone fills
    the disk, so a slot has an owner who is told, an age after which he is told, and a size at
    which it is given up. Giving up costs nothing but speed here: rows that were not sent are still
    in the table, unmarked, and the next relay reads them there before it follows the log again.

Invariants (tests cite them)
    S1  A slot that is read, and holds little, raises nothing.
    S2  A slot is given up when it holds more than the cap, read or not, or when the server has
        already dropped what it needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from scalelab.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9_]{1,63}")


class SlotTrouble(StrEnum):
    """LOST: the log it needs is gone. TOO_LARGE: it holds more than the cap. LEFT: nobody has
    confirmed for too long."""

    LOST = "lost"
    TOO_LARGE = "too_large"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """age_max_s: without a confirmation until the owner is told. kept_max_bytes: the cap; keep it
    under the server's `max_slot_wal_keep_size`, which is the last resort."""

    age_max_s: float = 300.0
    kept_max_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class SlotState:
    """What a look at the server says. age_s: since the last confirmation that was written down.

    wal_status: as the server names it (`reserved`, `extended`, `unreserved`, `lost`).
    """

    name: str
    owner: str
    is_active: bool
    wal_status: str
    kept_bytes: int
    age_s: float


@dataclass(frozen=True, slots=True)
class SlotAlert:
    """One trouble, whom to tell, and what to do about it."""

    slot: str
    owner: str
    trouble: SlotTrouble
    advice: str


def check_name(name: str) -> str:
    """`name`, if a slot and a publication can bear it; raises InvalidInput otherwise."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name for a slot: a-z, 0-9 and _", field="name")
    return name


def judge(state: SlotState, limits: SlotLimits) -> tuple[SlotAlert, ...]:
    """Every trouble of the slot, the worst first (S1)."""
    found: list[SlotAlert] = []

    def alert(trouble: SlotTrouble, advice: str) -> None:
        found.append(SlotAlert(state.name, state.owner, trouble, advice))

    if state.wal_status == "lost":
        alert(SlotTrouble.LOST, "nothing to do: the next relay makes it anew and reads the table")
    elif state.kept_bytes > limits.kept_max_bytes:
        advice = f"it holds {state.kept_bytes} bytes of log: it is given up, the table is read"
        alert(SlotTrouble.TOO_LARGE, advice)
    if state.age_s > limits.age_max_s:
        advice = f"nothing confirmed for {state.age_s:.0f} s: start a relay, or drop the slot"
        alert(SlotTrouble.LEFT, advice)
    return tuple(found)


def is_given_up(alerts: Sequence[SlotAlert]) -> bool:
    """Whether the slot is to be dropped (S2)."""
    return any(alert.trouble in (SlotTrouble.LOST, SlotTrouble.TOO_LARGE) for alert in alerts)
