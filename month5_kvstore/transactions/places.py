"""Where a transaction's own keys lie: an intent beside its key, a decision by its id. Pure.

An intent must lie in the group of its key, so that one command can look at both. A key with a
{tag} lends it to its intent; any other key is made the tag itself.
"""

from __future__ import annotations

from uuid import UUID

from month5_kvstore.node import group_of, tag_of
from month5_kvstore.store import KEY_BYTES_MAX
from scalelab.errors import InvalidInput, TooLarge

RESERVED = b"\x00"
"""No key of a caller begins so."""

INTENTS = b"\x00intent"
"""Of all intents, and of nothing else."""

_SPARE_BYTES = 96


def check_key(key: bytes) -> None:
    """Raises InvalidInput, TooLarge for a key that no transaction can lock."""
    if not key:
        raise InvalidInput("a key has at least one byte", field="key", code="empty_key")
    if len(key) > KEY_BYTES_MAX - _SPARE_BYTES:
        raise TooLarge(f"a key of {len(key)} bytes leaves no room beside it", code="key_too_large")
    if key.startswith(RESERVED):
        raise InvalidInput("keys that begin with a zero byte are reserved", field="key")
    if tag_of(key) == key and b"}" in key:
        raise InvalidInput("a brace is closed that makes no {tag}", field="key")


def intent_key(key: bytes) -> bytes:
    """In the group of `key`, and of no other key. Raises as `check_key`."""
    return beside(INTENTS, key)


def beside(kind: bytes, key: bytes, name: bytes = b"") -> bytes:
    """A key in the group of `key`, one for each (kind, key, name); kind: no braces, no slash.

    Raises as `check_key`.
    """
    check_key(key)
    place = b"/" + key if tag_of(key) != key else b"-of/{" + key + b"}"
    return kind + place + (b"/" + name if name else b"")


def decision_key(tx: str) -> bytes:
    """Where the decision on a transaction stands: any group, found from its id alone."""
    return b"\x00decision/{" + tx.encode() + b"}"


def participant(group: int) -> str:
    """A group's name as the coordinator knows it."""
    return f"group-{group}"


def participant_of(key: bytes) -> str:
    """Who keeps the key."""
    return participant(group_of(key))


def begun_s(tx: str) -> float:
    """When a transaction began, in seconds since 1970 on its client's clock (its id is UUIDv7)."""
    return (UUID(hex=tx).int >> 80) / 1000
