"""A stored map as JSON that a person can read and correct, and back with every mistake named.

    {"owners": {"shard-0": "0-99,101", "shard-1": "100,102-255"},
     "moves": [{"slot": 100, "to": "shard-2", "state": "moving"}]}

Slots are listed by owner, as people think of them. That form can say what a map cannot be: a slot
that nobody owns, or two shards that own one. Both are refused by name, never guessed away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

from month2_databases.sharding.hash_placement import map_of_claims
from month2_databases.sharding.slot_states import SlotMove, SlotState, StoredMap
from scalelab.errors import InvalidInput
from scalelab.ids import SLOT_COUNT

_RANGE = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?")


def to_document(stored: StoredMap) -> dict[str, Any]:
    """The document of a map; its version is kept beside it, not in it."""
    shard_map = stored.shard_map
    return {
        "owners": {name: show_slots(shard_map.slots_of(name)) for name in shard_map.shards},
        "moves": [{"slot": m.slot, "to": m.to, "state": m.state.value} for m in stored.moves],
    }


def from_document(version: int, document: object) -> StoredMap:
    """The map of a document.

    Raises InvalidInput, code `slot_without_owner` or `slot_owned_twice` where that is the mistake.
    """
    owners = _mapping(_mapping(document, "the map").get("owners"), "owners")
    claims = {name: read_slots(text, f"owners.{name}") for name, text in owners.items()}
    moves = _mapping(document, "the map").get("moves", [])
    if not isinstance(moves, list):
        raise InvalidInput("moves is not a list", field="moves")
    items = cast("list[object]", moves)
    return StoredMap(
        map_of_claims(version, claims),
        tuple(_move(item, f"moves[{n}]") for n, item in enumerate(items)),
    )


def show_slots(slots: Iterable[int]) -> str:
    """Ascending slots as ranges: `0-2,7`."""
    ranges: list[list[int]] = []
    for slot in sorted(slots):
        if ranges and ranges[-1][1] == slot - 1:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def read_slots(text: object, where: str = "slots") -> tuple[int, ...]:
    """The slots of `0-2,7`, as listed; empty for "". Raises InvalidInput for anything else."""
    if not isinstance(text, str):
        raise InvalidInput(f"{where} is no list of slots like 0-2,7", field=where)
    slots: list[int] = []
    for part in text.split(",") if text else []:
        match = _RANGE.fullmatch(part.strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high < SLOT_COUNT:
            raise InvalidInput(
                f"{where}: {part!r} is no range of slots 0..{SLOT_COUNT - 1}", field=where
            )
        slots += range(low, high + 1)
    return tuple(slots)


def _move(item: object, where: str) -> SlotMove:
    entry = _mapping(item, where)
    slot, to, state = entry.get("slot"), entry.get("to"), entry.get("state")
    if not isinstance(slot, int) or not isinstance(to, str) or state not in ("moving", "fenced"):
        raise InvalidInput(f"{where} needs slot, to and state moving or fenced", field=where)
    return SlotMove(slot, to, SlotState(state))


def _mapping(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is not an object", field=where)
    return cast("dict[str, object]", value)
