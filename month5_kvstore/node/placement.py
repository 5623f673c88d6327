"""Which group has a key: for ever, and without asking anybody.

A key hashes to one of 256 slots; the slots are dealt out to the groups in equal runs. Only the part
in braces counts if there is one (`{cart-7}/items`), so that keys that belong together share a group
and can be changed by one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash

from month5_kvstore.node.errors import CrossGroup
from month5_kvstore.store import Interval
from scalelab.ids import SLOT_COUNT

GROUPS = 16
"""Of every cluster. The number is part of where each key lies and never changes."""


def tag_of(key: bytes) -> bytes:
    """What of a key is hashed: the first part in braces that is not empty, else all of it."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return key[start + 1 : end] if end > start + 1 else key


def group_of(key: bytes) -> int:
    """The group 0..15 of a key."""
    slot: int = xxhash.xxh3_64_intdigest(tag_of(key)) % SLOT_COUNT
    return slot * GROUPS // SLOT_COUNT


def group_of_all(keys: Iterable[bytes]) -> int:
    """The one group of all keys. Raises CrossGroup if there are several, or none."""
    groups = {group_of(key) for key in keys}
    if len(groups) != 1:
        raise CrossGroup(
            "these keys lie in several groups; give them the same {tag} to keep them together"
        )
    return groups.pop()


def groups_of(interval: Interval) -> range:
    """Where keys of an interval may lie: one group for a key or for keys that share a whole tag."""
    start, end = interval.start, interval.end
    opened = start.find(b"{")
    closed = start.find(b"}", opened + 2) if opened >= 0 else -1
    together = False
    if end and closed >= 0:
        bound = Interval.prefix(start[: closed + 1]).end
        together = bound is not None and end <= bound
    if end is None or together:
        group = group_of(start)
        return range(group, group + 1)
    return range(GROUPS)


def public_id(number: int, group: int) -> int:
    """A lease or session as clients see it: its group can be told from it."""
    return number * GROUPS + group


def private_id(public: int) -> tuple[int, int]:
    """(number, group) of what `public_id` made."""
    return divmod(public, GROUPS)
