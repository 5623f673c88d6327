"""A store as bytes and back, without stopping: frozen in no time, written while others go on.

Bytes: docs/formats/store-snapshot.md. The same state gives the same bytes (S1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from month5_kvstore.store.codec import Codec
from month5_kvstore.store.commands import Answer
from month5_kvstore.store.journal import Change, Journal
from month5_kvstore.store.key_map import Chunk
from month5_kvstore.store.sessions import Session
from month5_kvstore.store.store import Store, weight
from month5_kvstore.store.values import Version
from month5_kvstore.store.wire import TYPES
from scalelab.errors import CorruptData

MAGIC = b"SLKV\x01"
_HEAD = struct.Struct("<QI")  # keys, bytes of the description
_KEY = struct.Struct("<II")  # bytes of the key, versions
_VERSION = struct.Struct("<QIQQQI")  # revision, sub, created, version, lease, bytes of the value
_CHECK = struct.Struct("<Q")


class SavedLease(NamedTuple):
    """A lease; its keys name it themselves."""

    id: int
    ttl_ms: int
    deadline_ms: int


class SavedSession(NamedTuple):
    """A session. answers: (sequence, answer), in order."""

    id: int
    ttl_ms: int
    deadline_ms: int
    low: int
    answers: tuple[tuple[int, Answer], ...]


class Description(NamedTuple):
    """All of a store but its keys."""

    revision: int
    compacted: int
    time_ms: int
    quota_bytes: int
    alarm: bool
    last_lease: int
    leases: tuple[SavedLease, ...]
    last_session: int
    sessions: tuple[SavedSession, ...]


_CODEC = Codec({**TYPES, 48: Description, 49: SavedLease, 50: SavedSession})


@dataclass(frozen=True, slots=True)
class Frozen:
    """A store as it was at one instant; it stays so while the store goes on."""

    count: int
    chunks: tuple[Chunk, ...]
    description: Description

    def pieces(self) -> Iterator[bytes]:
        """The bytes in pieces, a chunk of keys each: for a thread, or between other things."""
        description = _CODEC.encode(self.description)
        head = MAGIC + _HEAD.pack(self.count, len(description)) + description
        digest = xxhash.xxh3_64(head)
        yield head
        for chunk in self.chunks:
            parts: list[bytes] = []
            for key, tip in zip(chunk.keys, chunk.tips, strict=True):
                _encode_key(key, tip, parts)
            piece = b"".join(parts)
            digest.update(piece)
            yield piece
        yield _CHECK.pack(digest.intdigest())

    def encode(self) -> bytes:
        """All of it."""
        return b"".join(self.pieces())


def freeze(store: Store) -> Frozen:
    """The store as it is now. Cost: a pointer for each chunk of keys, lease and kept answer."""
    leases, sessions = store.leases, store.sessions
    description = Description(
        store.revision,
        store.compacted,
        store.time_ms,
        store.quota_bytes,
        store.alarm,
        leases.last_id,
        tuple(
            SavedLease(number, lease.ttl_ms, lease.deadline_ms)
            for number, lease in sorted(leases.table.items())
        ),
        sessions.last_id,
        tuple(
            SavedSession(number, one.ttl_ms, one.deadline_ms, one.low, _in_order(one.answers))
            for number, one in sorted(sessions.table.items())
        ),
    )
    return Frozen(store.keys.count, store.keys.freeze(), description)


def restore(data: bytes) -> Store:
    """The store that was frozen; an empty one for no bytes. Raises CorruptData: the node halts."""
    if not data:
        return Store()
    body = memoryview(data)[: -_CHECK.size]
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + _HEAD.size + _CHECK.size:
        raise CorruptData("these bytes are no snapshot of a store", code="damaged_snapshot")
    if xxhash.xxh3_64_intdigest(body) != _CHECK.unpack(data[-_CHECK.size :])[0]:
        raise CorruptData("the snapshot's checksum is wrong", code="damaged_snapshot")
    try:
        return _read(data, len(body))
    except (struct.error, ValueError, TypeError) as error:
        raise CorruptData(f"a snapshot cannot be read: {error}", code="damaged_snapshot") from error


def _read(data: bytes, end: int) -> Store:
    count, size = _HEAD.unpack_from(data, len(MAGIC))
    at = len(MAGIC) + _HEAD.size
    store = Store()
    _describe(store, _CODEC.decode(data[at : at + size]))
    at += size
    changes: list[Change] = []
    for _ in range(count):
        at = _read_key(store, data, at, changes)
    if at != end:
        raise ValueError(f"{end - at} bytes follow the last key")
    changes.sort(key=lambda change: (change.version.revision, change.version.sub))
    _fill(store.journal, changes)
    if store.journal.newest != store.revision:
        raise ValueError(f"changes end at {store.journal.newest}, not at {store.revision}")
    return store


def _describe(store: Store, description: object) -> None:
    if not isinstance(description, Description):
        raise TypeError("it is not described")
    store.revision, store.compacted = description.revision, description.compacted
    store.time_ms = description.time_ms
    store.quota_bytes, store.alarm = description.quota_bytes, description.alarm
    store.journal = Journal(max(1, store.compacted))
    store.leases.last_id = description.last_lease
    for lease in description.leases:
        store.leases.restore(lease.id, lease.ttl_ms, lease.deadline_ms)
    store.sessions.last_id = description.last_session
    for one in description.sessions:
        session = Session(one.ttl_ms, one.deadline_ms, one.low, dict(one.answers))
        store.sessions.restore(one.id, session)


def _in_order(answers: Mapping[int, Answer]) -> tuple[tuple[int, Answer], ...]:
    return tuple((sequence, answers[sequence]) for sequence in sorted(answers))


def _encode_key(key: bytes, tip: Version, parts: list[bytes]) -> None:
    """Its versions from the oldest on."""
    versions: list[Version] = []
    at: Version | None = tip
    while at is not None:
        versions.append(at)
        at = at.previous
    parts += (_KEY.pack(len(key), len(versions)), key)
    for one in reversed(versions):
        head = _VERSION.pack(
            one.revision, one.sub, one.created, one.version, one.lease, len(one.value)
        )
        parts += (head, one.value)


def _read_key(store: Store, data: bytes, at: int, changes: list[Change]) -> int:
    length, versions = _KEY.unpack_from(data, at)
    at += _KEY.size
    key = data[at : at + length]
    at += length
    tip: Version | None = None
    for _ in range(versions):
        revision, sub, created, version, lease, size = _VERSION.unpack_from(data, at)
        at += _VERSION.size
        tip = Version(revision, sub, created, version, data[at : at + size], lease, tip)
        at += size
        store.size_bytes += weight(key, tip)
        if revision > store.journal.floor:
            changes.append(Change(key, tip))
    if tip is None:
        raise ValueError("a key without versions")
    store.keys.set(key, tip)
    store.leases.move(key, 0, tip.lease)
    return at


def _fill(journal: Journal, changes: list[Change]) -> None:
    together: list[Change] = []
    for change in changes:
        if together and together[0].version.revision != change.version.revision:
            journal.append(tuple(together))
            together = []
        together.append(change)
    if together:
        journal.append(tuple(together))
