"""Shard map: which of the 256 slots lives on which shard. Pure.

Theory of operation
    A key hashes to a slot for ever (scalelab.hashing); the map alone decides which server has it.
    Routing is one lookup in a tuple. Every change makes a new map with the next version, so two
    maps can be told apart and a stale one recognised.

Invariants (tests cite them)
    I1  Every slot has exactly one shard.
    I2  `even` gives each shard 256 // n or 256 // n + 1 neighbouring slots, in the order given.
    I3  A move changes one slot and the version, nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from scalelab.errors import InvalidInput
from scalelab.ids import SLOT_COUNT

_NAME = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class ShardMap:
    """version: grows with every change, from 1. owners: a shard name for each of 256 slots."""

    version: int
    owners: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.version < 1:
            raise InvalidInput("a shard map's version begins at 1", field="version")
        if len(self.owners) != SLOT_COUNT:
            raise InvalidInput(f"a shard map has {SLOT_COUNT} slots", field="owners")
        for name in set(self.owners):
            check_name(name)

    def shard_of(self, slot: int) -> str:
        """The shard that owns `slot` (0..255). Cost: one index."""
        return self.owners[slot]

    def slots_of(self, shard: str) -> tuple[int, ...]:
        """The slots a shard owns, ascending; empty for a shard without any."""
        return tuple(slot for slot, owner in enumerate(self.owners) if owner == shard)

    @property
    def shards(self) -> tuple[str, ...]:
        """The shards that own a slot, in the order of their first one."""
        return tuple(dict.fromkeys(self.owners))

    def moved(self, slot: int, to: str) -> ShardMap:
        """The next version, with `slot` on shard `to`."""
        if not 0 <= slot < SLOT_COUNT:
            raise InvalidInput(f"there is no slot {slot}", field="slot")
        return ShardMap(self.version + 1, (*self.owners[:slot], to, *self.owners[slot + 1 :]))


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """A server by name and DSN. A replica's name is also its application_name."""

    name: str
    dsn: str


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """One shard: where it is written, and the replicas that may be read."""

    name: str
    primary: str
    replicas: tuple[ServerSettings, ...] = ()


def even(names: Sequence[str]) -> ShardMap:
    """Version 1 with the slots split evenly over `names` in order (I2).

    Raises InvalidInput for no names, more names than slots, or a name twice.
    """
    if not 1 <= len(names) <= SLOT_COUNT or len(set(names)) != len(names):
        raise InvalidInput(f"1 to {SLOT_COUNT} different shards are needed", field="shards")
    return ShardMap(1, tuple(names[slot * len(names) // SLOT_COUNT] for slot in range(SLOT_COUNT)))


def parse_shards(text: str) -> tuple[ShardSettings, ...]:
    """Shards from JSON: [{"name", "primary": DSN, "replicas": [{"name", "dsn"}]}].

    Raises InvalidInput with the place of the first mistake; it never quotes a DSN.
    """
    try:
        raw: object = json.loads(text)
    except ValueError as error:
        raise InvalidInput("the shards are not JSON", field="shards") from error
    shards = tuple(
        _parse_shard(item, f"shards[{n}]") for n, item in enumerate(_list(raw, "shards"))
    )
    names = [s.name for s in shards] + [r.name for s in shards for r in s.replicas]
    if not shards or len(set(names)) != len(names):
        raise InvalidInput("shards and replicas need names, each its own", field="shards")
    return shards


def check_name(name: str) -> str:
    """`name` if it can name a server in tokens, metrics and headers, else InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name of a server: [a-z0-9-], 1 to 40", field="name")
    return name


def _parse_shard(item: object, where: str) -> ShardSettings:
    replicas = _list(_member(item, "replicas", where, default=[]), f"{where}.replicas")
    return ShardSettings(
        check_name(_text(item, "name", where)),
        _text(item, "primary", where),
        tuple(
            ServerSettings(
                check_name(_text(replica, "name", f"{where}.replicas[{n}]")),
                _text(replica, "dsn", f"{where}.replicas[{n}]"),
            )
            for n, replica in enumerate(replicas)
        ),
    )


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidInput(f"{where} is not a list", field=where)
    return cast("list[object]", value)


def _member(item: object, name: str, where: str, *, default: object = None) -> object:
    if not isinstance(item, dict):
        raise InvalidInput(f"{where} is not an object", field=where)
    return cast("dict[str, Any]", item).get(name, default)


def _text(item: object, name: str, where: str) -> str:
    value = _member(item, name, where)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{where}.{name} is missing or no text", field=f"{where}.{name}")
    return value
