"""The state of one node that all parts of the algorithm work on, and the step-down they share.

`Core` is private to this room: the driver holds a `Raft`, which lets nobody reach inside.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from month5_kvstore.raft.log import RaftLog
from month5_kvstore.raft.messages import Message
from month5_kvstore.raft.progress import Progress
from month5_kvstore.raft.records import Configuration
from month5_kvstore.raft.settings import Settings


class Role(StrEnum):
    """The paper's three roles, and the one who only asks (thesis 9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Read:
    """A read that waits for a majority to confirm its leader. asker: node that holds it."""

    asker: int
    context: int


@dataclass(frozen=True, slots=True)
class ReadState:
    """Read `context` may be answered once `index` is applied; index None: ask again elsewhere."""

    context: int
    index: int | None


@dataclass(slots=True)
class Core:
    """Everything a node knows. leader, vote, transferee: node ids, 0 for nobody."""

    id: int
    settings: Settings
    random: Random
    log: RaftLog
    term: int = 0
    vote: int = 0
    role: Role = Role.FOLLOWER
    leader: int = 0
    timeout_ticks: int = 0
    election_elapsed: int = 0
    heartbeat_elapsed: int = 0
    ticks: int = 0
    votes: dict[int, bool] = field(default_factory=dict[int, bool])
    # Of a leader alone; cleared when it steps down.
    progress: dict[int, Progress] = field(default_factory=dict[int, Progress])
    term_start: int = 0
    commit_news: bool = False
    uncommitted_bytes: int = 0
    transferee: int = 0
    has_asked_successor: bool = False
    round: int = 0
    rounds_sent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=128))
    lease_from: int | None = None
    reads_new: list[Read] = field(default_factory=list[Read])
    reads_asked: deque[tuple[int, int, Read]] = field(default_factory=deque[tuple[int, int, Read]])
    # What the next Ready carries.
    outbox: list[Message] = field(default_factory=list[Message])
    read_states: list[ReadState] = field(default_factory=list[ReadState])

    @property
    def configuration(self) -> Configuration:
        """The one in force."""
        return self.log.configuration

    @property
    def peers(self) -> list[int]:
        """Everyone else a leader replicates to, in order."""
        return [member for member in self.configuration.members if member != self.id]

    @property
    def has_committed_in_term(self) -> bool:
        """Whether a leader knows how far the log is committed: its own first entry is (5.4.2)."""
        return self.log.committed >= self.term_start

    def draw_timeout(self) -> None:
        """A new randomised election time-out (section 5.2)."""
        self.election_elapsed = 0
        shortest = self.settings.election_ticks
        self.timeout_ticks = shortest + self.random.randrange(shortest)


def become_follower(core: Core, term: int, leader: int) -> None:
    """Follow `leader` (0: nobody yet) in `term`; a new term means a new vote."""
    if term != core.term:
        core.term, core.vote = term, 0
    if core.role is Role.LEADER:
        abandoned = [*core.reads_new, *(read for _, _, read in core.reads_asked)]
        core.read_states += [ReadState(r.context, None) for r in abandoned if r.asker == core.id]
        core.reads_new.clear()
        core.reads_asked.clear()
        core.rounds_sent.clear()
        core.progress.clear()
        core.transferee = 0
        core.lease_from = None
    core.role, core.leader = Role.FOLLOWER, leader
    core.votes.clear()
    core.draw_timeout()
