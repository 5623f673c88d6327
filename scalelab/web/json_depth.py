"""How deeply a JSON text nests, decided without parsing it and in linear time.

Theory of operation
    Few brackets cannot nest deeply: two C-speed counts answer for almost every request.
    Otherwise strings are cut out, all but brackets is deleted, and the innermost pairs are
    removed `limit` times. Text that has brackets left is too deep, or not balanced, which
    is malformed either way. The string pattern is possessive: no text makes it backtrack.
"""

from __future__ import annotations

import re

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def nests_deeper_than(text: bytes, limit: int) -> bool:
    """True if arrays and objects nest deeper than `limit` levels, or cannot be balanced.

    False says nothing about validity: the parser decides that. Cost: O(len(text) * limit) bytes
    moved at C speed, and only for texts with more than `limit` opening brackets.
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    brackets = _STRING.sub(b"", text).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(limit):
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    return bool(brackets)
