"""Nodes led by hand, without disk and network: what they want sent is handed back."""

from __future__ import annotations

from random import Random

from month5_kvstore.raft import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Message,
    Raft,
    Ready,
    RequestVoteReply,
    Settings,
    Snapshot,
)

PLAIN = Settings(pre_vote=False, check_quorum=False)


def node(
    number: int = 1,
    *,
    voters: tuple[int, ...] = (1, 2, 3),
    learners: tuple[int, ...] = (),
    terms: tuple[int, ...] = (),
    term: int = 0,
    vote: int = 0,
    commit: int = 0,
    settings: Settings = PLAIN,
) -> Raft:
    """A node that starts with a log of entries of these terms."""
    entries = [Entry(index, of, EntryKind.COMMAND, b"x") for index, of in enumerate(terms, start=1)]
    return Raft(
        number,
        settings,
        random=Random(number),
        snapshot=Snapshot(0, 0, Configuration(voters, (), learners), b""),
        entries=entries,
        hard_state=HardState(term or (terms[-1] if terms else 0), vote, commit),
    )


def settle(raft: Raft) -> list[Message]:
    """Perform all that is to be done, on a perfect disk; returns what was to be sent."""
    sent: list[Message] = []
    while (ready := raft.ready()) is not None:
        sent += [*ready.sends_first, *ready.sends]
        raft.advance(ready)
    return sent


def effects(raft: Raft) -> Ready:
    """The one Ready that must be there; it is performed."""
    ready = raft.ready()
    assert ready is not None
    raft.advance(ready)
    return ready


def leader(**options: object) -> Raft:
    """Node 1, elected by node 2 in the term after its log's; its first entry is on its disk."""
    raft = node(**options)  # type: ignore[arg-type]
    raft.campaign()
    settle(raft)
    if raft.leader != 1:
        raft.step(RequestVoteReply(2, 1, raft.term, True))
        settle(raft)
    return raft
