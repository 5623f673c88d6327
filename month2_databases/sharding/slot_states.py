"""A shard map and what is happening to its slots: owned, moving, fenced. Pure.

Theory of operation
    A slot has one owner at every version. While it moves, the map also says where to, and whether
    the owner still takes its writes (moving) or no longer (fenced). Ownership changes in one step,
    `switched`; before it every move can be taken back with `kept`.

        owned ──moving──► moving ──fenced──► fenced ──switched──► owned by the other
          ▲                  │                  │
          └──────kept────────┴──────kept────────┘

Invariants (tests cite them)
    I1  Every change is the next version, and touches the named slots only.
    I2  A slot on its way has an owner that is not its destination.
    I3  Only a fenced slot changes its owner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from month2_databases.sharding.shard_map import ShardMap, check_name
from scalelab.errors import Conflict, InvalidInput
from scalelab.ids import SLOT_COUNT


class SlotState(StrEnum):
    """What may be done to a slot's rows where they are."""

    OWNED = "owned"
    MOVING = "moving"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class SlotMove:
    """One slot on its way. to: the shard that will own it. state: MOVING or FENCED."""

    slot: int
    to: str
    state: SlotState = SlotState.MOVING


@dataclass(frozen=True, slots=True)
class StoredMap:
    """One version of the stored map: the owners, and the moves under way by ascending slot."""

    shard_map: ShardMap
    moves: tuple[SlotMove, ...] = ()

    def __post_init__(self) -> None:
        slots = [move.slot for move in self.moves]
        if sorted(set(slots)) != slots:
            raise InvalidInput("a slot moves to one place at a time", field="moves")
        for move in self.moves:
            _check_slot(move.slot)
            check_name(move.to)
            if move.state is SlotState.OWNED or self.shard_map.shard_of(move.slot) == move.to:
                raise InvalidInput(f"slot {move.slot} is on its way to nowhere", field="moves")

    @property
    def version(self) -> int:
        """The map's version, from 1."""
        return self.shard_map.version

    def move_of(self, slot: int) -> SlotMove | None:
        """Where the slot is going, None if it stays."""
        return next((move for move in self.moves if move.slot == slot), None)

    def state_of(self, slot: int) -> SlotState:
        """owned, moving or fenced."""
        move = self.move_of(slot)
        return SlotState.OWNED if move is None else move.state

    def moving(self, slots: Collection[int], to: str) -> StoredMap:
        """The next version, with these slots on their way to shard `to`.

        Raises InvalidInput for a slot that lives there already, Conflict code `slot_in_move` for
        one that is under way.
        """
        for slot in slots:
            _check_slot(slot)
            if self.move_of(slot) is not None:
                raise Conflict(f"slot {slot} is under way already", code="slot_in_move")
        return self._with((), (SlotMove(slot, to) for slot in slots))

    def fenced(self, slots: Collection[int]) -> StoredMap:
        """The next version, with these moving slots closed to writes."""
        moves = self._under_way(slots)
        return self._with(slots, (SlotMove(m.slot, m.to, SlotState.FENCED) for m in moves))

    def kept(self, slots: Collection[int]) -> StoredMap:
        """The next version, with these slots staying where they are."""
        self._under_way(slots)
        return self._with(slots, ())

    def switched(self, slots: Collection[int]) -> StoredMap:
        """The next version, with these fenced slots owned by their destinations (I3)."""
        going = {move.slot: move for move in self._under_way(slots)}
        for move in going.values():
            if move.state is not SlotState.FENCED:
                raise Conflict(f"slot {move.slot} still takes writes", code="slot_not_fenced")
        owners = tuple(
            going[slot].to if slot in going else owner
            for slot, owner in enumerate(self.shard_map.owners)
        )
        rest = tuple(move for move in self.moves if move.slot not in going)
        return StoredMap(ShardMap(self.version + 1, owners), rest)

    def _under_way(self, slots: Collection[int]) -> list[SlotMove]:
        found = [move for move in self.moves if move.slot in slots]
        missing = set(slots) - {move.slot for move in found}
        if missing:
            raise Conflict(f"slots {sorted(missing)} are not under way", code="slot_not_in_move")
        return found

    def _with(self, without: Collection[int], more: Iterable[SlotMove]) -> StoredMap:
        rest = [move for move in self.moves if move.slot not in without]
        moves = tuple(sorted([*rest, *more], key=lambda move: move.slot))
        return StoredMap(ShardMap(self.version + 1, self.shard_map.owners), moves)


def _check_slot(slot: int) -> None:
    if not 0 <= slot < SLOT_COUNT:
        raise InvalidInput(f"there is no slot {slot}", field="slot")
