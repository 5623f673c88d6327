"""The store's values as bytes. Type numbers stand in logs: never give one a new meaning."""

from __future__ import annotations

from month5_kvstore.store.codec import Codec
from month5_kvstore.store.commands import (
    Answer,
    Compact,
    Compare,
    Delete,
    Deleted,
    Disarm,
    Done,
    Envelope,
    Found,
    Grant,
    KeepAlive,
    LeaseAnswer,
    OpenSession,
    PassTime,
    Put,
    PutDone,
    Range,
    Refused,
    Revoke,
    SessionOpened,
    SetQuota,
    Transaction,
    TransactionDone,
)
from month5_kvstore.store.values import Event, Interval, KeyValue
from scalelab.errors import CorruptData

TYPES: dict[int, type] = {
    1: Envelope,
    2: Put,
    3: Delete,
    4: Range,
    5: Transaction,
    6: Compare,
    7: Interval,
    8: Grant,
    9: Revoke,
    10: KeepAlive,
    11: Compact,
    12: OpenSession,
    13: SetQuota,
    14: Disarm,
    15: PassTime,
    32: KeyValue,
    33: PutDone,
    34: Deleted,
    35: Found,
    36: TransactionDone,
    37: LeaseAnswer,
    38: SessionOpened,
    39: Done,
    40: Refused,
    41: Event,
}
"""1..31: what is asked. 32..63: what is answered. 64 and above are free for other rooms."""

_CODEC = Codec(TYPES)


def encode_envelope(envelope: Envelope) -> bytes:
    """As an entry of the log carries it."""
    return _CODEC.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """Raises CorruptData: an entry that nobody can carry out halts the node."""
    value = _CODEC.decode(data)
    if not isinstance(value, Envelope):
        raise CorruptData(f"an entry holds a {type(value).__name__}, not a command")
    return value


def encode_answer(answer: Answer) -> bytes:
    """As a snapshot and a peer carry it."""
    return _CODEC.encode(answer)


def decode_answer(data: bytes) -> Answer:
    """Raises CorruptData."""
    value: Answer = _CODEC.decode(data)
    return value
