"""Placement: from a shard key to the shard that has it. One small pure contract, four answers.

| placement | keys near each other | grows by | a lookup costs |
|---|---|---|---|
| hash_placement   | scattered        | moving slots              | a hash, an index |
| range_placement  | together         | splitting a range         | a binary search |
| ring_placement   | scattered        | a member, its share moves | a hash, a table |
| directory        | as its default's | pinning keys one by one   | a dict, then the default's |

Whoever has another rule writes another class with these members; the router asks for no more.
"""

from __future__ import annotations

from typing import Protocol

from scalelab.errors import InvalidInput


class Placement(Protocol):
    """An immutable snapshot. Two placements are told apart by version; a change makes a new one."""

    @property
    def version(self) -> int:
        """Grows with every change, from 1."""
        ...

    @property
    def shards(self) -> tuple[str, ...]:
        """Every shard that may have a key."""
        ...

    def shard_of(self, key: object) -> str:
        """The one shard that has `key`. Pure; the same on every machine.

        Raises InvalidInput code `shard_key_null` or `shard_key_type` for what is no key of its.
        """
        ...


def text_key(key: object) -> str:
    """`key` if it is text. NULL and other types are refused: 7 and "7" would have two homes."""
    if isinstance(key, str):
        return key
    raise refused(key, "text")


def whole_key(key: object) -> int:
    """`key` if it is a whole number; True is none."""
    if isinstance(key, int) and not isinstance(key, bool):
        return key
    raise refused(key, "a whole number")


def refused(key: object, wanted: str) -> InvalidInput:
    """The error for a key that no shard can have: code `shard_key_null` or `shard_key_type`."""
    if key is None:
        return InvalidInput(
            "the shard key is NULL: no shard has it", field="key", code="shard_key_null"
        )
    return InvalidInput(
        f"the shard key is {type(key).__name__}, not {wanted}", field="key", code="shard_key_type"
    )
