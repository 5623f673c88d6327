"""In which order schema changes may reach the shards. Pure.

Theory of operation
    Shards are never changed at one instant, and old and new code run beside each other. So a change
    is taken apart: EXPAND adds what the new code needs and the old code does not mind, BACKFILL
    fills it for rows that are there, CONTRACT removes what only the old code needed. Each is a
    revision of its own; deploying code stands between them, so a run goes up to a phase that is
    named. A shard that was away is behind, and catches up in the next run.

Invariants (tests cite them)
    I1  A shard's revisions are applied in the order of the history, none twice.
    I2  A CONTRACT begins on no shard before every shard has everything that comes before it.
    I3  A run up to a phase applies nothing of a later phase, and nothing beyond that.

Source: Ambler and Sadalage 2006, "Refactoring Databases" (parallel change).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from scalelab.errors import InvalidInput


class Phase(IntEnum):
    """Parts of a schema change, in order."""

    EXPAND = 1
    BACKFILL = 2
    CONTRACT = 3


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the history. batch: SQL that fills some rows, repeated until it touches none."""

    name: str
    phase: Phase
    batch: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done next: `revision` on `shards`."""

    revision: Revision
    shards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A contract that has to wait, and for which shards."""

    revision: Revision
    waits_for: tuple[str, ...]


def next_turn(
    history: Sequence[Revision],
    versions: Mapping[str, str | None],
    up_to: Phase,
    *,
    failed: Collection[str] = (),
) -> Turn | Held | None:
    """The oldest revision that some shard lacks and may have now; None when all is done (I3).

    versions: each shard's last revision, None for an empty one. failed: shards to leave alone in
    this run. Raises InvalidInput code `unknown_revision` if a shard has one that is not in the
    history: its schema is newer than this code.
    """
    at = {shard: _place(history, shard, version) for shard, version in versions.items()}
    for place, revision in enumerate(history):
        if revision.phase > up_to:
            return None
        lacking = tuple(shard for shard in sorted(at) if at[shard] < place)
        if revision.phase is Phase.CONTRACT and lacking:
            behind = tuple(shard for shard in sorted(at) if at[shard] < place - 1)
            if behind:
                return Held(revision, behind)
        able = tuple(s for s in lacking if at[s] == place - 1 and s not in failed)
        if able:
            return Turn(revision, able)
    return None


def _place(history: Sequence[Revision], shard: str, version: str | None) -> int:
    if version is None:
        return -1
    for place, revision in enumerate(history):
        if revision.name == version:
            return place
    raise InvalidInput(
        f"{shard} is at revision {version!r}, which this code does not know",
        code="unknown_revision",
    )
