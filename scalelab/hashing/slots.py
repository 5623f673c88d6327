"""Slots: a fixed number of buckets between keys and servers.

A key hashes to one of 256 slots for ever; only the map from slots to servers changes. Moving a
slot moves its keys together, and a router needs a table of 256 entries, not of all keys.

The hash is xxh3_64 of the UTF-8 key: stable across processes, machines and versions, unlike
Python's own `hash`, which is salted per process.
"""

from __future__ import annotations

import xxhash

from scalelab.ids import SLOT_COUNT

SLOT_SETTING = "scalelab.slot"
"""Name of the database setting that says, inside a transaction, which slot it was admitted to.

A router sets it; tables whose rows belong to slots take it as their column's default, so the code
that writes the rows need not know that there are slots.
"""


def slot_for_key(key: str) -> int:
    """The slot 0..255 of `key`. Cost: one hash of the key, no allocation of note."""
    return xxhash.xxh3_64_intdigest(key.encode()) % SLOT_COUNT
