"""Names of write-ahead log segments, and what is missing between two of them. Pure.

A segment's name is 24 hex digits: timeline, then the high and low part of its number. Recovery
needs every segment from a backup's start on, without a gap; PostgreSQL itself takes a gap for the
end of the log and, without a target, opens with what it has. So a gap is looked for beforehand.

Invariants (tests cite them)
    I1  `between(a, b)` has exactly one name for each number from a's to b's.
    I2  `gaps` is empty only if every number from the first to the last is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scalelab.errors import InvalidInput

SEGMENT_BYTES = 16 << 20
_A_FILE = 0x100000000 // SEGMENT_BYTES
_NAME = re.compile(r"[0-9A-F]{24}")
_LSN = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})")


def is_segment(name: str) -> bool:
    """Whether it is a whole segment: not a `.partial`, `.history` or `.backup`."""
    return _NAME.fullmatch(name) is not None


def timeline_of(name: str) -> int:
    """The timeline a segment belongs to."""
    return int(_checked(name)[:8], 16)


def number_of(name: str) -> int:
    """A segment's place in the log: 0 is the first."""
    return int(_checked(name)[8:16], 16) * _A_FILE + int(name[16:], 16)


def segment_name(timeline: int, number: int) -> str:
    """The name of the segment at a place of a timeline."""
    high, low = divmod(number, _A_FILE)
    return f"{timeline:08X}{high:08X}{low:08X}"


def segment_at(timeline: int, lsn: int) -> str:
    """The name of the segment that holds the byte at `lsn`."""
    return segment_name(timeline, lsn // SEGMENT_BYTES)


def between(first: str, last: str) -> list[str]:
    """All names from `first` to `last` of first's timeline, both included (I1)."""
    timeline = timeline_of(first)
    return [
        segment_name(timeline, number) for number in range(number_of(first), number_of(last) + 1)
    ]


def gaps(present: Iterable[str], first: str, *, at_least: str) -> list[str]:
    """Names missing from `first` to the newest present one of its timeline, and to `at_least`."""
    held = {name for name in present if is_segment(name)}
    same = [name for name in held if timeline_of(name) == timeline_of(first)]
    newest = max([*same, at_least], key=number_of)
    return [name for name in between(first, newest) if name not in held]


def lsn_of(text: str) -> int:
    """`0/3000148` as bytes. Raises InvalidInput on anything else."""
    match = _LSN.fullmatch(text.upper())
    if match is None:
        raise InvalidInput(f"{text!r} is no log position; one looks like 0/3000148", field="lsn")
    return int(match[1], 16) << 32 | int(match[2], 16)


def lsn_text(lsn: int) -> str:
    """Bytes as `0/3000148`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _checked(name: str) -> str:
    if not is_segment(name):
        raise InvalidInput(f"{name!r} is no name of a log segment", field="segment")
    return name
