"""What one transaction has read and wants to write, before anything of it is told to a group. Pure.

Invariants (tests cite them)
    W1  A key that was read or written before is read from here: a transaction sees one value of a
        key, and its own writes.
    W2  Without a write there is no intent; with one, every key that was read has one too.
"""

from __future__ import annotations

from collections.abc import Mapping

from month5_kvstore.store import VALUE_BYTES_MAX, KeyValue
from month5_kvstore.transactions.intents import Change, Intent, encode
from month5_kvstore.transactions.places import check_key, participant_of
from scalelab.errors import TooLarge

KEYS_MAX = 32
"""Of one transaction: a group's part must fit into one command of the store."""


class Workspace:
    """seen: keys read, with the revision of their last change (0: not there). looks: so many."""

    def __init__(self) -> None:
        self.seen: dict[bytes, int] = {}
        self.looks = 0
        self._values: dict[bytes, bytes | None] = {}
        self._changes: dict[bytes, tuple[Change, bytes]] = {}

    def knows(self, key: bytes) -> bool:
        """Whether `value` can tell it."""
        return key in self._values

    def value(self, key: bytes) -> bytes | None:
        """As this transaction sees it (W1). Raises KeyError for one it did not look at."""
        return self._values[key]

    def saw(self, found: Mapping[bytes, KeyValue | None]) -> None:
        """Take note of one look at keys. Raises TooLarge."""
        self.looks += 1
        for key, item in found.items():
            if key in self.seen:
                continue
            self.seen[key] = item.modified if item is not None else 0
            self._values.setdefault(key, item.value if item is not None else None)
        self._check_count()

    def put(self, key: bytes, value: bytes) -> None:
        """Write. Raises InvalidInput, TooLarge; nothing is changed then."""
        self._change(key, Change.PUT, value)

    def delete(self, key: bytes) -> None:
        """Delete. Raises as `put`."""
        self._change(key, Change.DELETE, b"")

    @property
    def writes(self) -> bool:
        """Whether it changes anything."""
        return bool(self._changes)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All that it read or writes."""
        return tuple(sorted(self.seen.keys() | self._changes.keys()))

    def keys_by_participant(self) -> dict[str, tuple[bytes, ...]]:
        """Which group has to vote on what."""
        return by_participant(self.keys)

    def intents(self, tx: str) -> dict[str, tuple[Intent, ...]]:
        """By participant (W2). Raises TooLarge for a value that leaves no room for its intent."""
        parts: dict[str, tuple[Intent, ...]] = {}
        keys = self.keys
        for name, ours in by_participant(keys).items():
            made = [
                Intent(tx, key, *self._changes.get(key, (Change.LOCK, b"")), keys) for key in ours
            ]
            for intent in made:
                if len(encode(intent)) > VALUE_BYTES_MAX:
                    raise TooLarge(
                        f"the value of {intent.key[:60]!r} leaves no room for its intent",
                        code="value_too_large",
                    )
            parts[name] = tuple(made)
        return parts

    def _change(self, key: bytes, change: Change, value: bytes) -> None:
        check_key(key)
        if key not in self.seen and key not in self._changes:
            self._check_count(1)
        self._changes[key] = (change, value)
        self._values[key] = value if change is Change.PUT else None

    def _check_count(self, more: int = 0) -> None:
        count = len(self.keys) + more
        if count > KEYS_MAX:
            raise TooLarge(f"{count} keys are over {KEYS_MAX} for one transaction")


def by_participant(keys: tuple[bytes, ...]) -> dict[str, tuple[bytes, ...]]:
    """Keys by the group that has them."""
    parts: dict[str, tuple[bytes, ...]] = {}
    for key in keys:
        name = participant_of(key)
        parts[name] = (*parts.get(name, ()), key)
    return parts
