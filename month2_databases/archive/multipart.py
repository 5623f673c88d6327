"""Upload of a large object in parts that goes on where it stopped.

Theory of operation
    The server keeps each part under its number until the upload is completed, and tells the MD5 of
    each. So the server itself is the journal: after a kill of either side the parts are listed,
    those that are there with the right hash are kept, all others are sent (again), and only then is
    the upload completed. Until that moment nothing can be read under the key.

Guarantees
    G1  A part that the server holds intact is not sent again.
    G2  A part of another content (the source has changed, or it was damaged) is replaced.
    G3  The object is there whole or not at all.

Limits of S3: 10,000 parts; every part but the last has at least 5 MiB.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

from scalelab.clients.s3 import SMALLEST_PART_BYTES, ObjectStore
from scalelab.errors import InvalidInput

MOST_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be uploaded. size: bytes. read: (offset, count) → exactly that many bytes."""

    size: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class UploadReport:
    """Parts sent by this call, and those that were there already."""

    sent: int
    kept: int


def part_size(size: int, wanted: int = SMALLEST_PART_BYTES) -> int:
    """Bytes of a part: `wanted`, or more where the parts would be too many."""
    if wanted < SMALLEST_PART_BYTES:
        raise InvalidInput(f"a part has at least {SMALLEST_PART_BYTES} bytes", field="part_bytes")
    return max(wanted, math.ceil(size / MOST_PARTS))


async def upload(
    store: ObjectStore,
    bucket: str,
    key: str,
    source: Source,
    *,
    part_bytes: int = SMALLEST_PART_BYTES,
    at: Callable[[str], None] = lambda step: None,
) -> UploadReport:
    """Bring the source to the store, going on with the youngest upload of this key if there is one.

    at: called with `part N` after each part that was sent. One caller a key at a time.
    """
    if source.size < 1:
        raise InvalidInput("an empty object needs no parts", field="source")
    each = part_size(source.size, part_bytes)
    begun = await store.uploads(bucket, key)
    number = begun[-1] if begun else await store.begin_upload(bucket, key)
    there = {part.number: part for part in await store.parts(bucket, key, number)}
    etags: dict[int, str] = {}
    sent = 0
    for index, offset in enumerate(range(0, source.size, each), start=1):
        body = source.read(offset, min(each, source.size - offset))
        held = there.get(index)
        if held is not None and held.etag.strip('"') == _md5(body):
            etags[index] = held.etag
            continue
        etags[index] = await store.put_part(bucket, key, number, index, body)
        sent += 1
        at(f"part {index}")
    await store.complete_upload(bucket, key, number, etags)
    return UploadReport(sent, len(etags) - sent)


async def give_up(store: ObjectStore, bucket: str, key: str) -> int:
    """Drop all uploads of a key that were not completed; how many. Their parts cost storage."""
    begun = await store.uploads(bucket, key)
    for number in begun:
        await store.give_up_upload(bucket, key, number)
    return len(begun)


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
