"""The bytes of a page: one node or one file header, with a checksum. Pure.

Every page begins with 16 bytes (little endian); keys and values are signed 64-bit.

    at  bytes  field
     0      4  checksum   CRC-32 of all that follows on the page
     4      1  kind       1 header, 2 leaf, 3 branch, 4 free
     5      1  0
     6      2  count      keys on the page
     8      4  number     of this page: one that was written to a wrong place is found out
    12      4  next       leaf: its right neighbour; free: the next free page; 0 for none
    16         leaf: count keys, then count values
               branch: count keys, then count + 1 child page numbers of 4 bytes
               header (page 0): "SLB+", version 2, height 2, page size 4, root 4, pages 4,
               first free page 4, entries 8

The rest is zero. A page of which a crash wrote a part only is torn: its checksum does not fit.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from month2_databases.indexes.node import Branch, Leaf, Node
from scalelab.errors import CorruptData, InvalidInput

SMALLEST_PAGE, LARGEST_PAGE = 64, 32768
HEADER_PAGE = 0
_HEAD = struct.Struct("<IBBHII")
_FILE = struct.Struct("<4sHHIIIIQ")
_MAGIC, _VERSION = b"SLB+", 1
_FILE_HEADER, _LEAF, _BRANCH, _FREE = 1, 2, 3, 4
_KEY_BYTES, _CHILD_BYTES = 8, 4


@dataclass(frozen=True, slots=True)
class FileHeader:
    """Page 0. height: levels, 1 for a lone leaf. pages: in the file, this one included."""

    page_size: int
    root: int
    height: int
    pages: int
    first_free: int
    entries: int


@dataclass(frozen=True, slots=True)
class FreePage:
    """A page that holds nothing; next_free: the one behind it, 0 for none."""

    next_free: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many keys fit: on a leaf (with values), on a branch (with children)."""

    leaf: int
    branch: int

    @classmethod
    def of(cls, page_size: int) -> Capacity:
        """Of pages of that many bytes. Raises InvalidInput unless 64..32768 and divisible by 8."""
        if not SMALLEST_PAGE <= page_size <= LARGEST_PAGE or page_size % 8:
            raise InvalidInput(
                f"a page of {page_size} bytes is not {SMALLEST_PAGE} to {LARGEST_PAGE}, by eights",
                field="page_size",
            )
        room = page_size - _HEAD.size
        branch = (room - _CHILD_BYTES) // (_KEY_BYTES + _CHILD_BYTES)
        return cls(room // (2 * _KEY_BYTES), branch)


Page = FileHeader | FreePage | Node


def encode(page: Page, number: int, page_size: int) -> bytes:
    """A page as exactly page_size bytes. The node must fit (`Capacity`)."""
    match page:
        case FileHeader():
            kind, count, after = _FILE_HEADER, 0, 0
            body = _FILE.pack(
                _MAGIC,
                _VERSION,
                page.height,
                page.page_size,
                page.root,
                page.pages,
                page.first_free,
                page.entries,
            )
        case FreePage():
            kind, count, after, body = _FREE, 0, page.next_free, b""
        case Leaf():
            kind, count, after = _LEAF, len(page), page.next_page
            body = struct.pack(f"<{2 * count}q", *page.keys, *page.values)
        case Branch():
            kind, count, after = _BRANCH, len(page), 0
            body = struct.pack(f"<{count}q{count + 1}I", *page.keys, *page.children)
    head = _HEAD.pack(0, kind, 0, count, number, after)
    rest = (head + body).ljust(page_size, b"\0")[4:]
    return struct.pack("<I", zlib.crc32(rest)) + rest


def decode(data: bytes, number: int) -> Page:
    """The page that these bytes are.

    Raises CorruptData: torn_page (checksum), misplaced_page (another page's number), bad_page.
    """
    if len(data) < SMALLEST_PAGE:
        raise CorruptData(f"page {number} has {len(data)} bytes only", code="torn_page")
    checksum, kind, _, count, stored, after = _HEAD.unpack_from(data)
    if zlib.crc32(memoryview(data)[4:]) != checksum:
        raise CorruptData(f"page {number} is torn: its checksum does not fit", code="torn_page")
    if stored != number:
        raise CorruptData(f"page {number} holds page {stored}", code="misplaced_page")
    try:
        return _body(data, kind, count, after)
    except struct.error as error:
        raise CorruptData(f"page {number} ends within its entries", code="bad_page") from error


def _body(data: bytes, kind: int, count: int, after: int) -> Page:
    if kind == _LEAF:
        numbers = struct.unpack_from(f"<{2 * count}q", data, _HEAD.size)
        return Leaf(numbers[:count], numbers[count:], after)
    if kind == _BRANCH:
        numbers = struct.unpack_from(f"<{count}q{count + 1}I", data, _HEAD.size)
        return Branch(numbers[:count], numbers[count:])
    if kind == _FREE:
        return FreePage(after)
    magic, version, height, page_size, root, pages, first_free, entries = _FILE.unpack_from(
        data, _HEAD.size
    )
    if kind != _FILE_HEADER or magic != _MAGIC or version != _VERSION:
        raise CorruptData("this is no page of a B+ tree file of version 1", code="bad_page")
    return FileHeader(page_size, root, height, pages, first_free, entries)
