"""Log replication: sections 5.3, 5.4.2 and 7, and the thesis on pipelining (10.2.1).

A leader sends what it has as soon as the driver asks for effects, so that proposals which arrived
together travel together (batching), and does not wait for answers (pipelining), up to a window.
What a message lost costs is found out by the next one, or by the next heartbeat's answer.
"""

from __future__ import annotations

from month5_kvstore.raft import quorum
from month5_kvstore.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    TimeoutNow,
)
from month5_kvstore.raft.progress import Phase, Progress
from month5_kvstore.raft.records import Entry, EntryKind
from month5_kvstore.raft.state import Core


def append(core: Core, kind: EntryKind, data: bytes) -> int:
    """A leader puts an entry at the end of its own log; returns its index."""
    entry = Entry(core.log.last_index + 1, core.term, kind, data)
    core.log.append(entry)
    core.uncommitted_bytes += len(data)
    return entry.index


def flush(core: Core) -> None:
    """Send every follower what it lacks and may get, and the commit index if that is news."""
    last_index = core.log.last_index
    for peer in core.peers:
        progress = core.progress.get(peer)
        if progress is None:
            progress = core.progress[peer] = Progress(last_index + 1)
        sent = False
        while progress.next <= last_index and _send_entries(core, peer, progress):
            sent = True
        if core.commit_news and not sent and progress.phase is Phase.REPLICATE:
            _send_entries(core, peer, progress)
    core.commit_news = False


def probe(core: Core, peer: int) -> None:
    """Send `peer` an AppendEntries even if it needs no entries: its answer tells where it is."""
    _send_entries(core, peer, core.progress[peer])


def _send_entries(core: Core, peer: int, progress: Progress) -> bool:
    """One AppendEntries or a snapshot; False if nothing may be sent now."""
    if not progress.may_send(core.settings.inflight_max):
        return False
    log = core.log
    prev_index = progress.next - 1
    prev_term = log.term_at(prev_index)
    if prev_term is None:
        retry = core.round + core.settings.snapshot_patience_rounds
        progress.sent_snapshot(log.snapshot.index, retry)
        core.outbox.append(InstallSnapshot(core.id, peer, core.term, log.snapshot))
        return False
    entries = log.slice(progress.next, core.settings.append_bytes_max)
    core.outbox.append(
        AppendEntries(core.id, peer, core.term, prev_index, prev_term, entries, log.committed)
    )
    progress.sent(entries)
    return bool(entries)


def send_heartbeats(core: Core) -> None:
    """A new round: every peer is asked whether this node still leads."""
    core.round += 1
    core.rounds_sent.append((core.round, core.ticks))
    if own := core.progress.get(core.id):
        own.round = core.round
    for peer in core.peers:
        match = core.progress[peer].match if peer in core.progress else 0
        commit = min(match, core.log.committed)
        core.outbox.append(Heartbeat(core.id, peer, core.term, commit, core.round))


def on_append_entries(core: Core, message: AppendEntries) -> None:
    """A follower's side of section 5.3."""
    log, leader = core.log, message.sender
    if message.prev_index < log.committed:
        # Late: what is committed here agrees with every leader to come.
        core.outbox.append(AppendEntriesReply(core.id, leader, core.term, log.committed))
        return
    if log.term_at(message.prev_index) != message.prev_term:
        hint, hint_term = log.last_at_or_below(message.prev_index, message.prev_term)
        core.outbox.append(
            AppendEntriesReply(core.id, leader, core.term, 0, message.prev_index, hint, hint_term)
        )
        return
    log.accept(message.entries)
    last_new = message.prev_index + len(message.entries)
    log.commit_to(min(message.commit, last_new))
    core.outbox.append(AppendEntriesReply(core.id, leader, core.term, last_new))


def on_append_entries_reply(core: Core, message: AppendEntriesReply) -> None:
    """A leader learns what a follower holds, or where to look for agreement."""
    progress = core.progress.get(message.sender)
    if progress is None:
        return
    progress.active = True
    if message.rejected is not None:
        agreed, _ = core.log.last_at_or_below(message.hint_index, message.hint_term)
        if progress.refused(message.rejected, agreed):
            probe(core, message.sender)
        return
    if progress.acknowledged(message.match):
        advance_commit(core)
    if message.sender == core.transferee and progress.match == core.log.last_index:
        core.outbox.append(TimeoutNow(core.id, message.sender, core.term))


def advance_commit(core: Core) -> None:
    """Commit what a majority holds, if its last entry is of this term (section 5.4.2)."""
    reached = {peer: progress.match for peer, progress in core.progress.items()}
    agreed = quorum.agreed_index(core.configuration, reached)
    if agreed > core.log.committed and core.log.term_at(agreed) == core.term:
        core.log.commit_to(agreed)
        core.commit_news = True


def on_heartbeat(core: Core, message: Heartbeat) -> None:
    """A follower learns the commit index, never beyond what the leader knows it to hold."""
    core.log.commit_to(message.commit)
    core.outbox.append(HeartbeatReply(core.id, message.sender, core.term, message.round))


def on_heartbeat_reply(core: Core, message: HeartbeatReply) -> None:
    """A follower is there; if it may lack something, look what (a message may be lost)."""
    progress = core.progress.get(message.sender)
    if progress is None:
        return
    progress.active = True
    progress.round = max(progress.round, message.round)
    progress.waiting = False
    if progress.phase is Phase.SNAPSHOT and message.round >= progress.retry_round:
        # The snapshot, or the answer to it, may be lost: look where the follower is.
        progress.probe_from(progress.match + 1)
    if progress.match < core.log.last_index:
        if len(progress.inflight) >= core.settings.inflight_max:
            progress.inflight.popleft()
        probe(core, message.sender)


def on_install_snapshot(core: Core, message: InstallSnapshot) -> None:
    """Section 7: an old snapshot changes nothing; one within our log moves the commit index."""
    log, snapshot = core.log, message.snapshot
    if snapshot.index > log.committed:
        if log.term_at(snapshot.index) == snapshot.term:
            log.commit_to(snapshot.index)
        else:
            log.restore(snapshot)
    core.outbox.append(AppendEntriesReply(core.id, message.sender, core.term, log.committed))
