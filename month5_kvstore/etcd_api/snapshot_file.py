"""A saved snapshot as etcd's clients want it: padded to whole blocks, with a checksum behind.

    magic "SLES", version 1, 3 zero bytes | length, 8 bytes, little-endian
    the store's snapshot | zero bytes up to a multiple of 512 | SHA-256 of all before, 32 bytes

`etcdctl snapshot save` looks for those 32 bytes; `unsealed` gives the store's snapshot back.
"""

from __future__ import annotations

import hashlib
import struct

import xxhash

from month5_kvstore.store import Frozen
from scalelab.errors import CorruptData

_BLOCK = 512
_HEAD = struct.Struct("<4sB3xQ")
_MAGIC, _VERSION = b"SLES", 1
_NUMBERS = struct.Struct("<IIQQQQ")


def sealed(snapshot: bytes) -> bytes:
    """The file."""
    body = _HEAD.pack(_MAGIC, _VERSION, len(snapshot)) + snapshot
    body += bytes(-len(body) % _BLOCK)
    return body + hashlib.sha256(body).digest()


def unsealed(file: bytes) -> bytes:
    """The store's snapshot, for `restore`. Raises CorruptData (damaged_snapshot)."""
    body, checksum = file[:-32], file[-32:]
    if len(body) < _HEAD.size or hashlib.sha256(body).digest() != checksum:
        raise CorruptData("the file's checksum is wrong", code="damaged_snapshot")
    magic, version, size = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION) or size > len(body) - _HEAD.size:
        raise CorruptData("this is no snapshot of ours", code="damaged_snapshot")
    return body[_HEAD.size : _HEAD.size + size]


def digest_of(frozen: Frozen, revision: int) -> int:
    """32 bits over all keys as of a revision: the same on every node that has applied it."""
    digest = xxhash.xxh3_64()
    for chunk in frozen.chunks:
        for key, tip in zip(chunk.keys, chunk.tips, strict=True):
            one = tip.at(revision)
            if one is None or not one.version:
                continue
            sizes = (len(key), len(one.value))
            digest.update(_NUMBERS.pack(*sizes, one.created, one.revision, one.version, one.lease))
            digest.update(key)
            digest.update(one.value)
    return digest.intdigest() & 0xFFFFFFFF
