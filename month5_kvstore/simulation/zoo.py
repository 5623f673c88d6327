"""The bug zoo: mistakes that people make in Raft, each planted alone and each to be caught.

A simulator that finds nothing is worth what it would have found. Every specimen is one passage of
the true source, replaced. `Bug.where` says on which kind of day it shows within a few seeds; a
mistake that needs a story too rare for luck has a script that tells it, in scripts/.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from month5_kvstore.simulation.drawing import Family, draw
from month5_kvstore.simulation.history import Judge
from month5_kvstore.simulation.planting import Planted
from scalelab.errors import InvalidInput

DURATION_US = 6_000_000
SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True, slots=True)
class Bug:
    """name: the mistake. file: in the month's folder. before: the passage; after: the mistake.
    where: the family of seeds, or the script, that shows it."""

    name: str
    file: str
    before: str
    after: str
    where: Family | str = Family.MIXED


@dataclass(frozen=True, slots=True)
class Caught:
    """What shows a bug, and the rule that it breaks. seed: None for a script."""

    bug: str
    where: Family | str | None
    seed: int | None
    rule: str
    detail: str


BUGS: tuple[Bug, ...] = (
    Bug(
        "votes twice in a term",
        "raft/election.py",
        "free = core.vote == candidate or (core.vote == 0 and core.leader == 0)",
        "free = True",
        Family.ELECTIONS,
    ),
    Bug(
        "votes for a log that lacks entries (5.4.1)",
        "raft/election.py",
        "granted = free and core.log.is_up_to_date(message.last_index, message.last_term)",
        "granted = free",
        Family.DISKS,
    ),
    Bug(
        "compares logs by length alone (5.4.1)",
        "raft/log.py",
        "return last_term > own or (last_term == own and last_index >= self.last_index)",
        "return last_index >= self.last_index or (last_term == own and own > own)",
        "a_longer_log_is_not_a_newer_one",
    ),
    Bug(
        "keeps its vote when the term changes",
        "raft/state.py",
        "core.term, core.vote = term, 0",
        "core.term = term",
        Family.ELECTIONS,
    ),
    Bug(
        "counts a pre-vote as a vote",
        "raft/election.py",
        "    if core.role is not wanted:\n        return\n"
        "    if message.pre and message.granted and message.term != core.term + 1:\n",
        "    if core.role not in (wanted, Role.CANDIDATE):\n",
        Family.ELECTIONS,
    ),
    Bug(
        "leads with half of the votes",
        "raft/quorum.py",
        "return voters // 2 + 1",
        "return (voters + 1) // 2 if voters > 1 and voters % 2 == 0 else max(1, voters // 2)",
        Family.ELECTIONS,
    ),
    Bug(
        "commits an entry of an old term by counting (5.4.2)",
        "raft/replication.py",
        "if agreed > core.log.committed and core.log.term_at(agreed) == core.term:",
        "if agreed > core.log.committed:",
        "an_old_entry_is_not_committed_by_counting",
    ),
    Bug(
        "commits what one node holds",
        "raft/quorum.py",
        "return ascending[len(voters) - majority(len(voters))]",
        "return ascending[-1]",
        Family.DISKS,
    ),
    Bug(
        "does not look whether the entry before fits (5.3)",
        "raft/replication.py",
        "    if log.term_at(message.prev_index) != message.prev_term:\n",
        "    if log.term_at(message.prev_index) is None:\n",
        Family.SNAPSHOTS,
    ),
    Bug(
        "cuts its log off without a conflict (5.3)",
        "raft/log.py",
        "            if term == entry.term:\n                continue\n",
        "            if term == entry.term and entry.index == self.last_index:\n"
        "                continue\n",
        Family.SNAPSHOTS,
    ),
    Bug(
        "leaves what conflicts (5.3)",
        "raft/log.py",
        "            if term == entry.term:\n                continue\n",
        "            if term is not None:\n                continue\n",
        Family.DISKS,
    ),
    Bug(
        "believes the leader's commit index beyond what it was sent",
        "raft/replication.py",
        "log.commit_to(min(message.commit, last_new))",
        "log.commit_to(min(message.commit, log.last_index))",
        "a_commit_index_reaches_no_further_than_what_was_sent",
    ),
    Bug(
        "heartbeats carry the whole commit index",
        "raft/replication.py",
        "commit = min(match, core.log.committed)",
        "commit = core.log.committed",
        Family.ELECTIONS,
    ),
    Bug(
        "acknowledges its last entry, not the last that was sent",
        "raft/replication.py",
        "core.outbox.append(AppendEntriesReply(core.id, leader, core.term, last_new))",
        "core.outbox.append(AppendEntriesReply(core.id, leader, core.term, log.last_index))",
        "a_commit_index_reaches_no_further_than_what_was_sent",
    ),
    Bug(
        "a leader believes that its followers have its log",
        "raft/progress.py",
        "        self.match = 0\n",
        "        self.match = next_index - 1\n",
        Family.ELECTIONS,
    ),
    Bug(
        "a leader counts its own copy before it is on disk",
        "raft/raft.py",
        "core.progress[core.id].match = log.persisted",
        "core.progress[core.id].match = log.last_index",
        Family.DISKS,
    ),
    Bug(
        "answers reads at once, as if it must still lead",
        "raft/reads.py",
        "    if holds_lease(core):\n",
        "    if core.leader == core.id:\n",
        Family.READS,
    ),
    Bug(
        "a new leader answers reads before it has committed (6.4)",
        "raft/reads.py",
        "if not core.reads_new or not core.has_committed_in_term:",
        "if not core.reads_new:",
        Family.READS,
    ),
    Bug(
        "a heartbeat answers reads that came after it",
        "raft/reads.py",
        "    send_heartbeats(core)\n",
        "    send_heartbeats(core) if not core.reads_asked else None\n",
        "an_answer_from_before_a_read_does_not_confirm_it",
    ),
    Bug(
        "a follower reads before it has applied the read index",
        "simulation/machine.py",
        "            if index <= self.applied:\n",
        "            if index <= self.applied or index > 0:\n",
        Family.LEASE,
    ),
    Bug(
        "a snapshot forgets the members",
        "raft/raft.py",
        "return Snapshot(index, term, log.configuration_at(index), data)",
        "return Snapshot(index, term, log.configurations[0][1], data)",
        Family.MEMBERS,
    ),
    Bug(
        "a snapshot has members that are not committed yet",
        "raft/raft.py",
        "return Snapshot(index, term, log.configuration_at(index), data)",
        "return Snapshot(index, term, log.configuration, data)",
        Family.SNAPSHOTS,
    ),
    Bug(
        "an old snapshot turns the state back (7)",
        "raft/replication.py",
        "    if snapshot.index > log.committed:\n",
        "    if snapshot.index > 0:\n",
        "a_late_snapshot_changes_nothing",
    ),
    Bug(
        "a snapshot's content is not loaded",
        "simulation/machine.py",
        "        self._store.load(snapshot.data)\n        self.applied",
        "        self.applied",
        Family.SNAPSHOTS,
    ),
    Bug(
        "a restart begins with an empty state machine",
        "simulation/machine.py",
        "        self._store.load(disk.snapshot.data)\n",
        "",
        Family.SNAPSHOTS,
    ),
    Bug(
        "says yes before the vote is on disk",
        "simulation/machine.py",
        "            self._send(ready.sends_first)\n",
        "            self._send(ready.sends_first + ready.sends)\n",
        Family.ELECTIONS,
    ),
    Bug(
        "forgets the sync",
        "raft/raft.py",
        "must_sync=promised or bool(entries) or log.incoming is not None,",
        "must_sync=False,",
        Family.DISKS,
    ),
    Bug(
        "forgets the sync for votes",
        "raft/raft.py",
        "must_sync=promised or bool(entries) or log.incoming is not None,",
        "must_sync=bool(entries) or log.incoming is not None,",
        Family.ELECTIONS,
    ),
    Bug(
        "changes several voters in one step (6)",
        "raft/membership.py",
        "    if len(set(wanted) ^ set(current.voters)) <= 1:\n",
        "    if len(wanted) > 0:\n",
        "several_voters_change_only_jointly",
    ),
    Bug(
        "a joint change needs one majority only (6)",
        "raft/quorum.py",
        "        agreed = min(agreed, _agreed(configuration.outgoing, reached))\n",
        "        agreed = max(agreed, _agreed(configuration.outgoing, reached))\n",
        Family.MEMBERS,
    ),
    Bug(
        "a joint change never ends",
        "raft/membership.py",
        "    if current.joint:\n",
        "    if current.joint and len(current.voters) > 99:\n",
        Family.MEMBERS,
    ),
    Bug(
        "never looks again after a lost message",
        "raft/replication.py",
        "    if progress.match < core.log.last_index:\n",
        "    if progress.match < 0:\n",
        Family.READS,
    ),
    Bug(
        "never draws a new election time-out (5.2)",
        "raft/state.py",
        "self.timeout_ticks = shortest + self.random.randrange(shortest)",
        "self.timeout_ticks = shortest",
        Family.SNAPSHOTS,
    ),
    Bug(
        "a leader ignores a higher term",
        "raft/dispatch.py",
        "        if not _asks_or_answers_pre_vote(message):\n",
        "        if not _asks_or_answers_pre_vote(message) and core.role is not Role.LEADER:\n",
        Family.ELECTIONS,
    ),
    Bug(
        "a lease outlasts the shortest time-out (6.4.1)",
        "raft/reads.py",
        "core.ticks - core.lease_from < core.settings.election_ticks * 9 // 10",
        "core.ticks - core.lease_from < core.settings.election_ticks * 3",
        Family.LEASE,
    ),
    Bug(
        "a lease counts from the answer, not from the question",
        "raft/reads.py",
        "        _, core.lease_from = core.rounds_sent.popleft()\n",
        "        core.lease_from, _ = core.ticks, core.rounds_sent.popleft()\n",
        "a_lease_counts_from_the_question",
    ),
    Bug(
        "a voter that has restarted forgets the lease it gave",
        "raft/election.py",
        "    if core.settings.lease_reads and core.ticks < core.settings.election_ticks:\n",
        "    if core.settings.lease_reads and core.ticks < 0:\n",
        "a_restart_does_not_end_a_lease",
    ),
    Bug(
        "a lease goes on after somebody was asked to take over",
        "raft/reads.py",
        "core.lease_from is None or core.has_asked_successor:",
        "core.lease_from is None or core.transferee:",
        "a_late_request_to_take_over_ends_no_promise",
    ),
    Bug(
        "takes entries from a leader of the past (5.1)",
        "raft/dispatch.py",
        "        _tell_the_term(core, message)\n        return\n",
        "        if not isinstance(message, AppendEntries):\n"
        "            _tell_the_term(core, message)\n            return\n",
        Family.MEMBERS,
    ),
)


def script(name: str) -> str:
    """A script's text. Raises InvalidInput if there is none of this name."""
    file = SCRIPTS / f"{name}.txt"
    if not file.is_file():
        raise InvalidInput(f"no script is called {name!r}", field="script")
    return file.read_text(encoding="utf-8")


def named(part: str) -> Bug:
    """The bug whose name is or has `part`. Raises InvalidInput if that is not exactly one."""
    found = [bug for bug in BUGS if bug.name == part] or [bug for bug in BUGS if part in bug.name]
    if len(found) != 1:
        raise InvalidInput(f"{len(found)} bugs have {part!r} in their names", field="bug")
    return found[0]


def hunt(bug: Bug, judge: Judge, *, seeds: int) -> Caught | None:
    """Look where the bug is known to show: its script, or seeds 0, 1, … of its family."""
    planted = Planted(bug.file, bug.before, bug.after)
    if isinstance(bug.where, Family):
        return _hunt_seeds(planted, bug, bug.where, judge, seeds)
    told = planted.play(script(bug.where))
    if told.rule is None:
        return None
    return Caught(bug.name, bug.where, None, told.rule, told.detail)


def search(bug: Bug, judge: Judge, *, seeds: int) -> Caught | None:
    """Look without knowing where: seeds of every family by themselves, then every script."""
    planted = Planted(bug.file, bug.before, bug.after)
    if (caught := _hunt_seeds(planted, bug, None, judge, seeds)) is not None:
        return caught
    for file in sorted(SCRIPTS.glob("*.txt")):
        told = planted.play(file.read_text(encoding="utf-8"))
        if told.rule is not None:
            return Caught(bug.name, file.stem, None, told.rule, told.detail)
    return None


def _hunt_seeds(
    planted: Planted, bug: Bug, family: Family | None, judge: Judge, seeds: int
) -> Caught | None:
    for seed in range(seeds):
        plan = draw(seed, duration_us=DURATION_US, family=family)
        verdict = planted.simulate(plan, judge)
        if verdict.rule is not None:
            return Caught(bug.name, family, seed, verdict.rule, verdict.detail)
    return None
