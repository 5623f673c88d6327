"""Leader election: sections 5.2 and 5.4.1, pre-vote (thesis 9.6), check-quorum (thesis 6.2).

FOLLOWER ──time-out──► PRE_CANDIDATE ──majority would──► CANDIDATE ──majority──► LEADER
    ▲                       │                               │                       │
    └─── a leader, a higher term, a lost ballot, or a leader without a majority ────┘
"""

from __future__ import annotations

from month5_kvstore.raft import quorum, replication
from month5_kvstore.raft.messages import RequestVote, RequestVoteReply
from month5_kvstore.raft.progress import Progress
from month5_kvstore.raft.quorum import Verdict
from month5_kvstore.raft.records import EntryKind
from month5_kvstore.raft.state import Core, Role, become_follower


def campaign(core: Core, *, transfer: bool = False) -> None:
    """Stand for election, if this node may vote at all; ask first, unless the leader sent us."""
    if core.id not in core.configuration.electorate:
        return
    if core.settings.pre_vote and not transfer:
        core.role, core.leader = Role.PRE_CANDIDATE, 0
        _ask_for_votes(core, core.term + 1, pre=True, transfer=False)
    else:
        _stand(core, transfer=transfer)


def _stand(core: Core, *, transfer: bool) -> None:
    core.role, core.leader = Role.CANDIDATE, 0
    core.term += 1
    core.vote = core.id
    _ask_for_votes(core, core.term, pre=False, transfer=transfer)


def _ask_for_votes(core: Core, term: int, *, pre: bool, transfer: bool) -> None:
    core.draw_timeout()
    core.votes = {core.id: True}
    if _count(core):
        return
    log = core.log
    for peer in core.configuration.electorate:
        if peer != core.id:
            core.outbox.append(
                RequestVote(core.id, peer, term, log.last_index, log.last_term, pre, transfer)
            )


def refuses_to_listen(core: Core, message: RequestVote) -> bool:
    """Whether a vote request is disregarded because a leader is there (section 6, end).

    A node that has just started cannot know whom it promised patience, so where leases count it
    keeps quiet for one time-out.
    """
    if message.transfer or not core.settings.check_quorum:
        return False
    if core.settings.lease_reads and core.ticks < core.settings.election_ticks:
        return True
    return core.leader != 0 and core.election_elapsed < core.settings.election_ticks


def on_request_vote(core: Core, message: RequestVote) -> None:
    """One vote a term, first come first served, and only for a log that is complete enough."""
    candidate = message.sender
    if message.pre:
        free = message.term > core.term
    else:
        free = core.vote == candidate or (core.vote == 0 and core.leader == 0)
    granted = free and core.log.is_up_to_date(message.last_index, message.last_term)
    if granted and not message.pre:
        core.vote = candidate
        core.election_elapsed = 0
    term = message.term if granted else core.term
    core.outbox.append(RequestVoteReply(core.id, candidate, term, granted, message.pre))


def on_request_vote_reply(core: Core, message: RequestVoteReply) -> None:
    """Count an answer to the ballot that is under way; any other is too late."""
    wanted = Role.PRE_CANDIDATE if message.pre else Role.CANDIDATE
    if core.role is not wanted:
        return
    if message.pre and message.granted and message.term != core.term + 1:
        return
    core.votes.setdefault(message.sender, message.granted)
    _count(core)


def _count(core: Core) -> bool:
    """Act on the ballot if it is decided; tells whether it is."""
    verdict = quorum.tally(core.configuration, core.votes)
    if verdict is Verdict.PENDING:
        return False
    if verdict is Verdict.LOST:
        become_follower(core, core.term, 0)
    elif core.role is Role.PRE_CANDIDATE:
        _stand(core, transfer=False)
    else:
        become_leader(core)
    return True


def become_leader(core: Core) -> None:
    """Begin to lead: nothing is known of the others, and an entry of the own term goes first."""
    log = core.log
    core.role, core.leader = Role.LEADER, core.id
    core.votes.clear()
    core.election_elapsed = core.heartbeat_elapsed = 0
    core.round = core.uncommitted_bytes = 0
    core.has_asked_successor = False
    first = log.last_index + 1
    core.progress = {member: Progress(first) for member in core.configuration.members}
    own = core.progress.setdefault(core.id, Progress(first))
    own.match = log.persisted
    core.term_start = replication.append(core, EntryKind.NOOP, b"")


def has_quorum(core: Core) -> bool:
    """Whether a majority was heard from since the last time this was asked."""
    active = {peer: progress.active or peer == core.id for peer, progress in core.progress.items()}
    for progress in core.progress.values():
        progress.active = False
    return quorum.tally(core.configuration, active) is Verdict.WON
