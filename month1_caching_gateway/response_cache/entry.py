"""A stored answer, ready to be sent, and the bounded store that holds all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from month1_caching_gateway.response_cache.freshness import Freshness
from month1_caching_gateway.response_cache.key import Key, variant_of

_OVERHEAD_BYTES = 600
"""What an entry takes beside its bytes: objects, dict slots, pointers. Measured, rounded up."""


@dataclass(slots=True)
class Entry:
    """headers: lower-case names in order, end to end ones only. named: the same, joined by comma.

    vary: names in a fixed order; variant: the values they had. note: of whoever sends it, the head
    as it goes out. kept: False from the moment the store has forgotten it.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    named: Mapping[bytes, bytes]
    body: bytes
    vary: tuple[bytes, ...]
    variant: tuple[bytes, ...]
    freshness: Freshness
    note: object = None
    kept: bool = True

    @property
    def size_bytes(self) -> int:
        """What the store counts."""
        lines = sum(len(name) + len(value) for name, value in self.headers)
        return lines * 3 + len(self.body) + _OVERHEAD_BYTES


def _no_variants() -> list[Entry]:
    return []


@dataclass(slots=True)
class _Variants:
    """All answers under one key, the one stored last first."""

    entries: list[Entry] = field(default_factory=_no_variants)


class EntryStore:
    """At most `max_bytes` of answers; the key used least recently goes first.

    At most `max_variants` answers a key: a service that varies by a free text cannot fill the
    store with one page. Cost: O(1) a lookup, O(variants) where an answer varies.
    """

    def __init__(self, max_bytes: int, *, max_variants: int = 16) -> None:
        self._max_bytes = max_bytes
        self._max_variants = max_variants
        self._keys: OrderedDict[Key, _Variants] = OrderedDict()
        self._targets: dict[tuple[bytes, str], set[Key]] = {}
        self.bytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: Key, asked: Mapping[bytes, bytes]) -> Entry | None:
        """The answer chosen by this request's headers, if there is one."""
        variants = self._keys.get(key)
        if variants is None:
            return None
        self._keys.move_to_end(key)
        for entry in variants.entries:
            if not entry.vary or variant_of(entry.vary, asked) == entry.variant:
                return entry
        return None

    def touch(self, key: Key) -> None:
        """The answer under a key that is kept was used."""
        self._keys.move_to_end(key)

    def put(self, key: Key, entry: Entry) -> None:
        """Keep an answer in the place of the one it was chosen like."""
        if entry.size_bytes > self._max_bytes:
            self.drop(key)
            return
        variants = self._keys.get(key)
        if variants is None:
            variants = self._keys[key] = _Variants()
            self._targets.setdefault(key[:2], set()).add(key)
        kept = [
            one
            for one in variants.entries
            if one.vary == entry.vary and one.variant != entry.variant
        ][: self._max_variants - 1]
        for one in variants.entries:
            one.kept = False
        for one in (entry, *kept):
            one.kept = True
        self.bytes += entry.size_bytes + sum(one.size_bytes for one in kept)
        self.bytes -= sum(one.size_bytes for one in variants.entries)
        variants.entries = [entry, *kept]
        self._keys.move_to_end(key)
        while self.bytes > self._max_bytes:
            self._drop_oldest()

    def drop(self, key: Key) -> bool:
        """Forget every answer under a key; whether there was one."""
        variants = self._keys.pop(key, None)
        if variants is None:
            return False
        self._forget(key, variants)
        return True

    def drop_target(self, host: bytes, path: str) -> int:
        """Forget every answer of a target, whatever its query; how many keys that were."""
        found = tuple(self._targets.get((host, path), ()))
        for key in found:
            self.drop(key)
        return len(found)

    def _drop_oldest(self) -> None:
        self._forget(*self._keys.popitem(last=False))
        self.evicted += 1

    def _forget(self, key: Key, variants: _Variants) -> None:
        for one in variants.entries:
            one.kept = False
        self.bytes -= sum(one.size_bytes for one in variants.entries)
        keys = self._targets[key[:2]]
        keys.discard(key)
        if not keys:
            del self._targets[key[:2]]
