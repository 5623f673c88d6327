"""The steps of a move of slots from one shard to another. Pure.

    planned ─► copying ─► catching_up ─► fencing ─► verifying ─► switching ─► cleaning ─► done
       └──────────┴────────────┴────────────┴───────────┘
                               ▼
                           aborting ─► aborted

Theory of operation
    The journal holds the step a move is *in*. Whoever takes the move over, after a kill at any
    instant, does that step again from its beginning; so each step's work is repeatable, and the
    next step is written down only when the work is done and durable.

    `switching` is the point of no return: it is written before the target takes its first write.
    Up to there the source has everything, and a move can be aborted; from there on only the target
    has, and a move can only be finished.

Invariants (tests cite them)
    I1  A move that is done or aborted stays so.
    I2  No path leads from switching, cleaning or done to aborted.
    I3  Every path ends: each fact either goes forward or towards the abort.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from month2_databases.sharding import show_slots
from scalelab.errors import Conflict, InvalidInput
from scalelab.ids import SLOT_COUNT


class Step(StrEnum):
    """What a move is in the middle of."""

    PLANNED = "planned"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    FENCING = "fencing"
    VERIFYING = "verifying"
    SWITCHING = "switching"
    CLEANING = "cleaning"
    DONE = "done"
    ABORTING = "aborting"
    ABORTED = "aborted"


_FORWARD = {
    Step.PLANNED: Step.COPYING,
    Step.COPYING: Step.CATCHING_UP,
    Step.CATCHING_UP: Step.FENCING,
    Step.FENCING: Step.VERIFYING,
    Step.VERIFYING: Step.SWITCHING,
    Step.SWITCHING: Step.CLEANING,
    Step.CLEANING: Step.DONE,
    Step.ABORTING: Step.ABORTED,
}
ABORTABLE = frozenset({Step.PLANNED, Step.COPYING, Step.CATCHING_UP, Step.FENCING, Step.VERIFYING})
ENDED = frozenset({Step.DONE, Step.ABORTED})


@dataclass(frozen=True, slots=True)
class Move:
    """Slots on their way from shard `source` to shard `target`.

    name: [a-z0-9_], names the replication slot and the publication too. epoch: grows each time
    somebody takes the move over. reason: why it was aborted. rows: counted when verified.
    """

    name: str
    slots: tuple[int, ...]
    source: str
    target: str
    step: Step = Step.PLANNED
    epoch: int = 0
    reason: str = ""
    rows: int = 0

    @property
    def has_ended(self) -> bool:
        """Done or aborted: nothing is left to do (I1)."""
        return self.step in ENDED

    @property
    def title(self) -> str:
        """One line for people."""
        return f"{self.name}: slots {show_slots(self.slots)} from {self.source} to {self.target}"


def plan(name: str, slots: tuple[int, ...], source: str, target: str) -> Move:
    """A new move. Raises InvalidInput for no slots, unknown ones, or a way to the source."""
    if not slots or not all(0 <= slot < SLOT_COUNT for slot in slots):
        raise InvalidInput(f"slots are 0..{SLOT_COUNT - 1}, at least one", field="slots")
    if source == target:
        raise InvalidInput(f"slots of {source} need not be moved to it", field="target")
    return Move(name, tuple(sorted(set(slots))), source, target)


def done(move: Move) -> Move:
    """The next step, once the work of this one is durable. Conflict code `move_ended` after I1."""
    if move.step not in _FORWARD:
        raise Conflict(f"{move.name} is {move.step} already", code="move_ended")
    return replace(move, step=_FORWARD[move.step])


def verified(move: Move, *, rows: int, differing: tuple[str, ...]) -> Move:
    """On with `rows` rows if no table differs, else towards the abort: the source has them all."""
    if move.step is not Step.VERIFYING:
        raise Conflict(f"{move.name} is {move.step}, not verifying", code="move_step")
    if differing:
        return aborted(move, reason=f"rows differ in {', '.join(differing)}")
    return done(replace(move, rows=rows))


def aborted(move: Move, *, reason: str) -> Move:
    """Towards the abort. Repeatable. Raises Conflict code `move_switched` past the last moment."""
    if move.step in (Step.ABORTING, Step.ABORTED):
        return move
    if move.step not in ABORTABLE:
        raise Conflict(
            f"{move.name} is {move.step}: {move.target} has the slots, finish the move",
            code="move_switched",
        )
    return replace(move, step=Step.ABORTING, reason=reason)


def taken_over(move: Move) -> Move:
    """The same step under the next epoch: what an earlier owner still writes is refused."""
    return replace(move, epoch=move.epoch + 1)
