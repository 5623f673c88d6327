"""What the commands of resharding return, in lines for a person. Pure."""

from __future__ import annotations

from typing import Any


def lines_of_move(told: dict[str, Any]) -> list[str]:
    """What became of a move: the document of `move`, `resume` or `abort`."""
    why = f": {told['reason']}" if told["reason"] else ""
    lines = [
        f"{told['name']}: slots {told['slots']}, {told['source']} → {told['target']}",
        f"  {told['step']}{why}",
    ]
    if told.get("copied_rows") is not None:
        lines.append(
            f"  {told['copied_rows']} rows copied, {told['applied_changes']} changes followed"
        )
    if told.get("unwritable_s") is not None:
        lines.append(f"  the slots took no writes for {told['unwritable_s'] * 1000:.0f} ms")
    return lines


def lines_of_shards(told: dict[str, Any]) -> list[str]:
    """The map, what the shards say themselves, and all moves: the document of `status`."""
    lines = [f"shard map, version {told['version']}"]
    lines += [f"  {name}: {slots or 'no slots'}" for name, slots in told["claimed"].items()]
    lines += [
        f"  slot {slot} is claimed by {', '.join(names)}: two owners, look at the moves"
        for slot, names in told["owned_twice"].items()
    ]
    for one in told["history"]:
        why = f" ({one['reason']})" if one["reason"] else ""
        way = f"{one['source']} → {one['target']}"
        lines.append(f"{one['name']}: {one['slots']} {way}: {one['step']}{why}")
    return lines
