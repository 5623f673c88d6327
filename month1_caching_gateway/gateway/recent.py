"""A bounded memory of what was used lately: two generations of a dictionary.

New entries go into the young generation. When it is full, or at every `turn`, it becomes the old
one and what nobody asked for since the turn before is dropped. An entry that is found in the old
generation is young again. So a lookup costs one or two dictionary reads, there is no list to keep
in order, and nothing stays that was not used for two turns.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most 2 * `size` entries. For one event loop."""

    __slots__ = ("_old", "_size", "_young")

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """What is remembered under `key`, or None."""
        found = self._young.get(key)
        if found is None and self._old:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Remember it."""
        if len(self._young) >= self._size:
            self.turn()
        self._young[key] = value

    def turn(self) -> None:
        """Forget what was not used since the last turn."""
        self._old, self._young = self._young, {}
