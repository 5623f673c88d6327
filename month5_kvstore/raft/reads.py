"""Linearizable reads without a log entry: ReadIndex, and the lease that is off by default.

ReadIndex (thesis 6.4): note the commit index, have a majority confirm that this node still leads
by answering a heartbeat sent after that, then wait until the index is applied. Two conditions are
easy to forget: a new leader must first commit an entry of its own term, and the heartbeat must be
newer than the read. Reads that arrive together share one round.

The lease (thesis 6.4.1) skips the round while an earlier one is fresh. It trusts clocks, and so
is only as good as they are.
"""

from __future__ import annotations

from month5_kvstore.raft import quorum
from month5_kvstore.raft.messages import ReadIndex, ReadIndexReply
from month5_kvstore.raft.replication import send_heartbeats
from month5_kvstore.raft.state import Core, Read, ReadState, Role


def ask(core: Core, read: Read) -> None:
    """A leader takes a read; the next Ready sends its round."""
    core.reads_new.append(read)


def flush(core: Core) -> None:
    """Note the commit index for all new reads and begin the round that confirms them."""
    if not core.reads_new or not core.has_committed_in_term:
        return
    index, reads = core.log.committed, list(core.reads_new)
    core.reads_new.clear()
    if holds_lease(core):
        for read in reads:
            _answer(core, read, index)
        return
    send_heartbeats(core)
    core.reads_asked.extend((core.round, index, read) for read in reads)
    confirm(core)


def confirm(core: Core) -> None:
    """Answer every read whose round a majority has answered; renew the lease by it."""
    rounds = {peer: progress.round for peer, progress in core.progress.items()}
    agreed = quorum.agreed_index(core.configuration, rounds)
    while core.rounds_sent and core.rounds_sent[0][0] <= agreed:
        _, core.lease_from = core.rounds_sent.popleft()
    while core.reads_asked and core.reads_asked[0][0] <= agreed:
        _, index, read = core.reads_asked.popleft()
        _answer(core, read, index)


def holds_lease(core: Core) -> bool:
    """Whether no other leader can exist yet, if clocks run alike but for one part in ten.

    Whoever was asked to take over need not wait for a time-out, and the request may arrive long
    after it was given up: from the first one on this leader reads by rounds.
    """
    if not core.settings.lease_reads or core.lease_from is None or core.has_asked_successor:
        return False
    return core.ticks - core.lease_from < core.settings.election_ticks * 9 // 10


def on_read_index(core: Core, message: ReadIndex) -> None:
    """A follower asks on behalf of its own caller; who does not lead keeps silent."""
    if core.role is Role.LEADER:
        ask(core, Read(message.sender, message.context))


def on_read_index_reply(core: Core, message: ReadIndexReply) -> None:
    """The leader has confirmed; the driver waits until the index is applied here."""
    core.read_states.append(ReadState(message.context, message.index))


def _answer(core: Core, read: Read, index: int) -> None:
    if read.asker == core.id:
        core.read_states.append(ReadState(read.context, index))
    else:
        core.outbox.append(ReadIndexReply(core.id, read.asker, core.term, read.context, index))
