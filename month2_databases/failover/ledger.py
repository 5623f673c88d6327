"""What a client was told, against what the database holds after a failover. Pure.

A client writes down every attempt with its outcome. Afterwards each row found is compared:

    acknowledged   must be there, once                       else it is lost
    unknown        may be there once or not at all            both are right, more than once is not
    refused        "nothing was changed": must not be there   else it is a ghost

Invariants (tests cite them)
    I1  A verdict is clean only if nothing is lost, no ghost, no duplicate, no stranger.
    I2  Every attempt counts in exactly one of the verdict's groups.

Bounds: synchronous replication promises an empty `lost`. Asynchronous replication promises only
that what is lost lies behind the point where the new timeline left the old one (`beyond`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from scalelab.errors import InvalidInput


class Outcome(Enum):
    """What the client knows about one write."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One write. lsn: bytes of log at or after its commit, None where nobody said."""

    key: str
    outcome: Outcome
    lsn: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Keys by what became of them, in the order of the attempts."""

    kept: tuple[str, ...]
    lost: tuple[str, ...]
    unknown_kept: tuple[str, ...]
    unknown_gone: tuple[str, ...]
    refused_gone: tuple[str, ...]
    ghosts: tuple[str, ...]
    duplicates: tuple[str, ...]
    strangers: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """No promise is broken (I1)."""
        return not (self.lost or self.ghosts or self.duplicates or self.strangers)


def judge(attempts: Iterable[Attempt], found: Iterable[str]) -> Verdict:
    """Compare attempts with the keys found, one for each row. Raises InvalidInput on a key twice:
    an attempt that is repeated with the same key is one attempt with its last outcome."""
    rows = Counter(found)
    groups: dict[tuple[Outcome, bool], list[str]] = {
        (outcome, there): [] for outcome in Outcome for there in (True, False)
    }
    seen: set[str] = set()
    for attempt in attempts:
        if attempt.key in seen:
            raise InvalidInput(f"two attempts have the key {attempt.key}", field="key")
        seen.add(attempt.key)
        groups[attempt.outcome, attempt.key in rows].append(attempt.key)
    return Verdict(
        kept=tuple(groups[Outcome.ACKNOWLEDGED, True]),
        lost=tuple(groups[Outcome.ACKNOWLEDGED, False]),
        unknown_kept=tuple(groups[Outcome.UNKNOWN, True]),
        unknown_gone=tuple(groups[Outcome.UNKNOWN, False]),
        refused_gone=tuple(groups[Outcome.REFUSED, False]),
        ghosts=tuple(groups[Outcome.REFUSED, True]),
        duplicates=tuple(key for key, times in rows.items() if times > 1),
        strangers=tuple(key for key in rows if key not in seen),
    )


def beyond(attempts: Iterable[Attempt], fork_lsn: int) -> tuple[str, ...]:
    """Acknowledged keys whose commit lies behind `fork_lsn`: what an asynchronous failover loses.

    Raises InvalidInput for an acknowledged attempt whose lsn is not known.
    """
    behind: list[str] = []
    for attempt in attempts:
        if attempt.outcome is not Outcome.ACKNOWLEDGED:
            continue
        if attempt.lsn is None:
            raise InvalidInput(f"nobody wrote down the lsn of {attempt.key}", field="lsn")
        if attempt.lsn > fork_lsn:
            behind.append(attempt.key)
    return tuple(behind)


def counts(verdict: Verdict) -> Mapping[str, int]:
    """The verdict as numbers, for a table."""
    return {
        "kept": len(verdict.kept),
        "lost": len(verdict.lost),
        "unknown_kept": len(verdict.unknown_kept),
        "unknown_gone": len(verdict.unknown_gone),
        "refused": len(verdict.refused_gone),
        "ghosts": len(verdict.ghosts),
        "duplicates": len(verdict.duplicates),
        "strangers": len(verdict.strangers),
    }
