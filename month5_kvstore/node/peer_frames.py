"""What nodes send each other: frames of a length and a value.

A frame is 4 bytes of length, little-endian, then a value as the store's codec writes it. The first
frame on a connection, in either direction, is a `Hello`; nothing else is listened to before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from month5_kvstore.raft import (
    AppendEntries,
    AppendEntriesReply,
    Configuration,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
    Snapshot,
    TimeoutNow,
)
from month5_kvstore.store import TYPES, Answer, Codec, Command
from scalelab.errors import CorruptData

FRAME_BYTES_MAX = 1 << 30
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks, from which folder, and how many groups it believes there are."""

    cluster_id: str
    node_id: int
    store_id: str
    groups: int


@dataclass(frozen=True, slots=True)
class Routed:
    """A message between two members of a group."""

    group: int
    message: Message


@dataclass(frozen=True, slots=True)
class Ask:
    """A command on its way to the leader of its group. number: of the asker's, used once."""

    number: int
    group: int
    command: Command
    session: int
    sequence: int
    acknowledged_below: int


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to an `Ask`."""

    number: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """An `Ask` that was certainly not carried out; it may be sent again, perhaps elsewhere."""

    number: int
    code: str
    message: str


Frame = Hello | Routed | Ask | Told | TurnedAway


def _entry(index: int, term: int, kind: int, data: bytes) -> Entry:
    return Entry(index, term, EntryKind(kind), data)


_CODEC = Codec(
    {
        **TYPES,
        64: Entry,
        65: Configuration,
        66: Snapshot,
        67: RequestVote,
        68: RequestVoteReply,
        69: AppendEntries,
        70: AppendEntriesReply,
        71: Heartbeat,
        72: HeartbeatReply,
        73: InstallSnapshot,
        74: TimeoutNow,
        75: ReadIndex,
        76: ReadIndexReply,
        80: Hello,
        81: Routed,
        82: Ask,
        83: Told,
        84: TurnedAway,
    },
    {Entry: _entry},
)


def encode(frame: Frame) -> bytes:
    """With its length in front."""
    body = _CODEC.encode(frame)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts what arrives into frames. One a connection."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises CorruptData: the connection is of no use."""
        self._waiting += data
        at = 0
        while len(self._waiting) >= at + _LENGTH.size:
            length: int = _LENGTH.unpack_from(self._waiting, at)[0]
            if length > FRAME_BYTES_MAX:
                raise CorruptData(f"a frame of {length} bytes is over {FRAME_BYTES_MAX}")
            end = at + _LENGTH.size + length
            if len(self._waiting) < end:
                break
            frame = _CODEC.decode(bytes(self._waiting[at + _LENGTH.size : end]))
            if not isinstance(frame, Hello | Routed | Ask | Told | TurnedAway):
                raise CorruptData(f"a {type(frame).__name__} is no frame")
            at = end
            yield frame
        del self._waiting[:at]
