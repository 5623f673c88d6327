"""Entity tags compared: what a caller holds against what is there. Pure.

    If-None-Match   weak comparison: is the caller's copy still good enough to show?
    If-Match        strong comparison: is it, byte for byte, what the caller decided on?

A header that is no list of tags matches nothing. For a read that means the full answer, for a write
that nothing is changed: both are never wrong.
Source: RFC 9110 sections 8.8.3 and 13.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAG = r'((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")'
_TAG_LIST = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")


def matches(if_none_match: str, tag: str) -> bool:
    """Whether an If-None-Match header names `tag`, by weak comparison."""
    header = if_none_match.strip()
    return header == "*" or tag in [one.removeprefix("W/") for one in _listed(header)]


def matches_strongly(if_match: str, tag: str) -> bool:
    """Whether an If-Match header names `tag`; a weak tag never does."""
    header = if_match.strip()
    return header == "*" or tag in _listed(header)


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must be true for a write, as the caller's headers say. Without either, anything may be.

    if_match: the caller changes what it has seen. if_none_match: `*`, the caller makes a new one.
    """

    if_match: str | None = None
    if_none_match: str | None = None

    def holds(self, tag: str | None) -> bool:
        """Whether the write may go on where `tag` stands (None: nothing is there)."""
        if self.if_match is not None:
            return tag is not None and matches_strongly(self.if_match, tag)
        if self.if_none_match is not None:
            return tag is None or not matches(self.if_none_match, tag)
        return True


def _listed(header: str) -> list[str]:
    return re.findall(_TAG, header) if _TAG_LIST.fullmatch(header) else []
