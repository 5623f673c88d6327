"""What happened, event by event, small enough to keep for every run, with one hash over all.

An event is a tuple of plain values: (time in µs, what, node, …). The hash is the same in every
process for the same plan; a difference means that something outside the seed had a say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from month5_kvstore.raft import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestVote,
    RequestVoteReply,
)

Event = tuple[int | str | bool | None, ...]
_AT_ONCE = 2_000


def describe(message: Message) -> str:  # noqa: C901 - one branch a message
    """A message in a few words, as diagrams and scripts show it."""
    match message:
        case RequestVote():
            name = "RequestPreVote" if message.pre else "RequestVote"
            return f"{name} t{message.term} last {message.last_index}/t{message.last_term}"
        case RequestVoteReply():
            name = "PreVote" if message.pre else "Vote"
            return f"{name} t{message.term} {'yes' if message.granted else 'no'}"
        case AppendEntries():
            entries = " ".join(f"{entry.index}/t{entry.term}" for entry in message.entries)
            return (
                f"Append t{message.term} after {message.prev_index}/t{message.prev_term}"
                f" [{entries}] commit {message.commit}"
            )
        case AppendEntriesReply() if message.rejected is not None:
            return (
                f"AppendReply t{message.term} rejects {message.rejected}"
                f" hint {message.hint_index}/t{message.hint_term}"
            )
        case AppendEntriesReply():
            return f"AppendReply t{message.term} match {message.match}"
        case Heartbeat():
            return f"Heartbeat t{message.term} round {message.round} commit {message.commit}"
        case HeartbeatReply():
            return f"HeartbeatReply t{message.term} round {message.round}"
        case InstallSnapshot():
            return f"Snapshot t{message.term} to {message.snapshot.index}"
        case ReadIndex():
            return f"ReadIndex t{message.term} #{message.context}"
        case ReadIndexReply():
            return f"ReadIndexReply t{message.term} #{message.context} at {message.index}"
        case _:
            return f"TimeoutNow t{message.term}"


def digest(events: Sequence[Event]) -> str:
    """A hash of all events, in hexadecimal."""
    running = hashlib.blake2b(digest_size=16)
    for start in range(0, len(events), _AT_ONCE):
        running.update(repr(events[start : start + _AT_ONCE]).encode())
    return running.hexdigest()
