"""The bug zoo: mistakes that people make in Raft, each planted alone and each to be caught.

A simulator that finds nothing is worth what it would have found. Every specimen is one passage of
the true source, replaced; `seeds` says within how many seeds some rule must break.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.simulation.history import Judge
from month5_kvstore.simulation.plan import draw
from month5_kvstore.simulation.planting import Planted

DURATION_US = 6_000_000


@dataclass(frozen=True, slots=True)
class Bug:
    """name: the mistake. file: in the month's folder. before: the passage; after: the mistake."""

    name: str
    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Caught:
    """The first seed that shows a bug, and the rule that it breaks."""

    bug: str
    seed: int
    rule: str
    detail: str


BUGS: tuple[Bug, ...] = (
    Bug(
        "votes twice in a term",
        "raft/election.py",
        "free = core.vote == candidate or (core.vote == 0 and core.leader == 0)",
        "free = True",
    ),
    Bug(
        "votes for a log that lacks entries (5.4.1)",
        "raft/election.py",
        "granted = free and core.log.is_up_to_date(message.last_index, message.last_term)",
        "granted = free",
    ),
    Bug(
        "compares logs by length alone (5.4.1)",
        "raft/log.py",
        "return last_term > own or (last_term == own and last_index >= self.last_index)",
        "return last_index >= self.last_index or (last_term == own and own > own)",
    ),
    Bug(
        "keeps its vote when the term changes",
        "raft/state.py",
        "core.term, core.vote = term, 0",
        "core.term = term",
    ),
    Bug(
        "counts a pre-vote as a vote",
        "raft/election.py",
        "    if core.role is not wanted:\n",
        "    if core.role not in (wanted, Role.CANDIDATE):\n",
    ),
    Bug(
        "leads with half of the votes",
        "raft/quorum.py",
        "return voters // 2 + 1",
        "return (voters + 1) // 2 if voters > 1 and voters % 2 == 0 else max(1, voters // 2)",
    ),
    Bug(
        "commits an entry of an old term by counting (5.4.2)",
        "raft/replication.py",
        "if agreed > core.log.committed and core.log.term_at(agreed) == core.term:",
        "if agreed > core.log.committed:",
    ),
    Bug(
        "commits what one node holds",
        "raft/quorum.py",
        "return ascending[len(voters) - majority(len(voters))]",
        "return ascending[-1]",
    ),
    Bug(
        "does not look whether the entry before fits (5.3)",
        "raft/replication.py",
        "    if log.term_at(message.prev_index) != message.prev_term:\n",
        "    if log.term_at(message.prev_index) is None:\n",
    ),
    Bug(
        "cuts its log off without a conflict (5.3)",
        "raft/log.py",
        "            if term == entry.term:\n                continue\n",
        "            if term == entry.term and entry.index == self.last_index:\n"
        "                continue\n",
    ),
    Bug(
        "leaves what conflicts (5.3)",
        "raft/log.py",
        "            if term == entry.term:\n                continue\n",
        "            if term is not None:\n                continue\n",
    ),
    Bug(
        "believes the leader's commit index beyond what it was sent",
        "raft/replication.py",
        "log.commit_to(min(message.commit, last_new))",
        "log.commit_to(min(message.commit, log.last_index))",
    ),
    Bug(
        "heartbeats carry the whole commit index",
        "raft/replication.py",
        "commit = min(match, core.log.committed)",
        "commit = core.log.committed",
    ),
    Bug(
        "acknowledges its last entry, not the last that was sent",
        "raft/replication.py",
        "core.outbox.append(AppendEntriesReply(core.id, leader, core.term, last_new))",
        "core.outbox.append(AppendEntriesReply(core.id, leader, core.term, log.last_index))",
    ),
    Bug(
        "a leader believes that its followers have its log",
        "raft/progress.py",
        "        self.match = 0\n",
        "        self.match = next_index - 1\n",
    ),
    Bug(
        "a leader counts its own copy before it is on disk",
        "raft/raft.py",
        "core.progress[core.id].match = log.persisted",
        "core.progress[core.id].match = log.last_index",
    ),
    Bug(
        "answers reads at once, as if it must still lead",
        "raft/reads.py",
        "    if holds_lease(core):\n",
        "    if core.leader == core.id:\n",
    ),
    Bug(
        "a new leader answers reads before it has committed (6.4)",
        "raft/reads.py",
        "if not core.reads_new or not core.has_committed_in_term:",
        "if not core.reads_new:",
    ),
    Bug(
        "a heartbeat answers reads that came after it",
        "raft/reads.py",
        "    send_heartbeats(core)\n",
        "    send_heartbeats(core) if not core.reads_asked else None\n",
    ),
    Bug(
        "a follower reads before it has applied the read index",
        "simulation/machine.py",
        "            if index <= self.applied:\n",
        "            if index <= self.applied or index > 0:\n",
    ),
    Bug(
        "a snapshot forgets the members",
        "raft/raft.py",
        "return Snapshot(index, term, log.configuration_at(index), data)",
        "return Snapshot(index, term, log.configurations[0][1], data)",
    ),
    Bug(
        "a snapshot has members that are not committed yet",
        "raft/raft.py",
        "return Snapshot(index, term, log.configuration_at(index), data)",
        "return Snapshot(index, term, log.configuration, data)",
    ),
    Bug(
        "an old snapshot turns the state back (7)",
        "raft/replication.py",
        "    if snapshot.index > log.committed:\n",
        "    if snapshot.index > 0:\n",
    ),
    Bug(
        "a snapshot's content is not loaded",
        "simulation/machine.py",
        "        self._store.load(snapshot.data)\n        self.applied",
        "        self.applied",
    ),
    Bug(
        "a restart begins with an empty state machine",
        "simulation/machine.py",
        "        self._store.load(disk.snapshot.data)\n",
        "",
    ),
    Bug(
        "says yes before the vote is on disk",
        "simulation/machine.py",
        "            self._send(ready.sends_first)\n",
        "            self._send(ready.sends_first + ready.sends)\n",
    ),
    Bug(
        "forgets the sync",
        "raft/raft.py",
        "must_sync=promised or bool(entries) or log.incoming is not None,",
        "must_sync=False,",
    ),
    Bug(
        "forgets the sync for votes",
        "raft/raft.py",
        "must_sync=promised or bool(entries) or log.incoming is not None,",
        "must_sync=bool(entries) or log.incoming is not None,",
    ),
    Bug(
        "changes several voters in one step (6)",
        "raft/membership.py",
        "    if len(set(wanted) ^ set(current.voters)) <= 1:\n",
        "    if len(wanted) > 0:\n",
    ),
    Bug(
        "a joint change needs one majority only (6)",
        "raft/quorum.py",
        "        agreed = min(agreed, _agreed(configuration.outgoing, reached))\n",
        "        agreed = max(agreed, _agreed(configuration.outgoing, reached))\n",
    ),
    Bug(
        "a joint change never ends",
        "raft/membership.py",
        "    if current.joint:\n",
        "    if current.joint and len(current.voters) > 99:\n",
    ),
    Bug(
        "never looks again after a lost message",
        "raft/replication.py",
        "    if progress.match < core.log.last_index:\n",
        "    if progress.match < 0:\n",
    ),
    Bug(
        "never draws a new election time-out (5.2)",
        "raft/state.py",
        "self.timeout_ticks = shortest + self.random.randrange(shortest)",
        "self.timeout_ticks = shortest",
    ),
    Bug(
        "a leader ignores a higher term",
        "raft/dispatch.py",
        "        if not _asks_or_answers_pre_vote(message):\n",
        "        if not _asks_or_answers_pre_vote(message) and core.role is not Role.LEADER:\n",
    ),
    Bug(
        "takes entries from a leader of the past (5.1)",
        "raft/dispatch.py",
        "        _tell_the_term(core, message)\n        return\n",
        "        if not isinstance(message, AppendEntries):\n"
        "            _tell_the_term(core, message)\n            return\n",
    ),
)


def hunt(bug: Bug, judge: Judge, *, seeds: int) -> Caught | None:
    """Run the bug on seed 0, 1, … until a rule breaks; None if none did within `seeds`."""
    planted = Planted(bug.file, bug.before, bug.after)
    for seed in range(seeds):
        verdict = planted.simulate(draw(seed, duration_us=DURATION_US), judge)
        if verdict.rule is not None:
            return Caught(bug.name, seed, verdict.rule, verdict.detail)
    return None
