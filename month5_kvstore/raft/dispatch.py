"""Terms first, then the message: the rules for all servers of figure 2."""

from __future__ import annotations

from typing import assert_never

from month5_kvstore.raft import election, reads, replication
from month5_kvstore.raft.messages import (
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
    TimeoutNow,
)
from month5_kvstore.raft.state import Core, Role, become_follower
from scalelab.errors import InvariantBroken


def step(core: Core, message: Message) -> None:
    """Bring the term up to date, drop what is too old, let the role's rule have the rest."""
    if message.term > core.term:
        if isinstance(message, RequestVote) and election.refuses_to_listen(core, message):
            return
        if not _asks_or_answers_pre_vote(message):
            become_follower(core, message.term, 0)
    elif message.term < core.term:
        _tell_the_term(core, message)
        return
    if isinstance(message, AppendEntries | Heartbeat | InstallSnapshot):
        _follow(core, message.sender)
    _handle(core, message)


def _asks_or_answers_pre_vote(message: Message) -> bool:
    """A pre-vote names a term that nobody has entered; only its refusal names a real one."""
    if isinstance(message, RequestVote):
        return message.pre
    return isinstance(message, RequestVoteReply) and message.pre and message.granted


def _tell_the_term(core: Core, message: Message) -> None:
    """Who leads or stands in an old term must hear of the new one; old replies say nothing."""
    if isinstance(message, RequestVote):
        core.outbox.append(RequestVoteReply(core.id, message.sender, core.term, False, message.pre))
    elif isinstance(message, AppendEntries | Heartbeat | InstallSnapshot):
        core.outbox.append(HeartbeatReply(core.id, message.sender, core.term, 0))


def _follow(core: Core, leader: int) -> None:
    """A request of the term's leader: whoever stood for this term has lost (section 5.2)."""
    if core.role is Role.LEADER:
        raise InvariantBroken(f"{core.id} and {leader} both lead term {core.term}")
    if core.role is not Role.FOLLOWER:
        become_follower(core, core.term, leader)
    core.leader = leader
    core.election_elapsed = 0


def _handle(core: Core, message: Message) -> None:  # noqa: C901 - one branch a message
    match message:
        case AppendEntries():
            replication.on_append_entries(core, message)
        case AppendEntriesReply():
            if core.role is Role.LEADER:
                replication.on_append_entries_reply(core, message)
        case Heartbeat():
            replication.on_heartbeat(core, message)
        case HeartbeatReply():
            if core.role is Role.LEADER:
                replication.on_heartbeat_reply(core, message)
                reads.confirm(core)
        case RequestVote():
            election.on_request_vote(core, message)
        case RequestVoteReply():
            election.on_request_vote_reply(core, message)
        case InstallSnapshot():
            replication.on_install_snapshot(core, message)
        case TimeoutNow():
            election.campaign(core, transfer=True)
        case ReadIndex():
            reads.on_read_index(core, message)
        case ReadIndexReply():
            reads.on_read_index_reply(core, message)
        case _:
            assert_never(message)
