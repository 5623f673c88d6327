"""Users talk to each other through a store whose third replica missed a while. Who is shown what?

Every conversation is a small script made to hurt: an author asks, somebody answers, a third sums
up, all while node 3 is away; then each of them, and readers of what they wrote, look again through
node 3. One arm reads any replica and believes it, one reads quorums, the others carry tokens over
reads of one replica. A checker that knows nothing of the store judges what everybody did and saw.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from month2_databases.consistency import (
    Broken,
    Guarantee,
    Level,
    Operation,
    Promise,
    Read,
    Ring,
    RingSession,
    Write,
    broken_promises,
    count_by_promise,
    needed,
)
from month2_databases.consistency.cassandra_sessions import COLUMNS
from month2_databases.experiments.ring_bed import UNHEALED, RingBed
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result

_REPLICAS = 3
_TABLE = f"CREATE TABLE IF NOT EXISTS talk ({COLUMNS}) WITH {UNHEALED}"
JUDGED = tuple(promise for promise in Promise if promise is not Promise.WRITTEN)


@dataclass(frozen=True, slots=True)
class Policy:
    """How an arm reads, and what its sessions are given."""

    level: Level
    guarantee: Guarantee


ARMS = {
    "one": Policy(Level.ONE, Guarantee.NONE),
    "quorum": Policy(Level.QUORUM, Guarantee.NONE),
    "own writes": Policy(Level.ONE, Guarantee.READ_YOUR_WRITES),
    "monotonic": Policy(Level.ONE, Guarantee.MONOTONIC_READS),
    "causal": Policy(Level.ONE, Guarantee.CAUSAL),
}


@dataclass
class User:
    """One session and what it did and saw. requests, replicas: that its reads took, in all."""

    session: RingSession
    level: Level
    lived: list[Operation] = field(default_factory=list[Operation])
    reads: int = 0
    replicas: int = 0

    async def write(self, key: str, via: str) -> None:
        """Through a node that is up."""
        version = await self.session.write(key, "text", via=via)
        self.lived.append(Write(key, version))

    async def read(self, key: str, via: str) -> None:
        """Through this node first."""
        seen = await self.session.read(key, via=via)
        self.lived.append(Read(key, seen.version))
        self.reads += 1
        self.replicas += seen.asked * needed(self.level, _REPLICAS)


class Conversation:
    """The users of one script, and what they say: `question`, `answer`, `summary`."""

    def __init__(self, ring: Ring, arm: str, number: int) -> None:
        self._ring = ring
        self._nodes = ring.addresses
        self._name = f"{arm}-{number}"
        self._policy = ARMS[arm]
        self.users: dict[str, User] = {}

    async def talk(self) -> None:
        """While node 3 is away: three write, and one of the readers has a first look."""
        first, second, _ = self._nodes
        question, answer, summary, note = map(self._key, ("question", "answer", "summary", "note"))
        author, replier, third = map(self._user, ("author", "replier", "third"))
        await author.write(question, first)
        await author.write(note, first)
        await replier.read(question, second)
        await replier.write(answer, second)
        await third.read(answer, first)
        await third.write(summary, first)
        await self._user("watcher").read(question, first)

    async def look_again(self) -> None:
        """Node 3 is back and has missed it all: everybody looks through it, or through it next."""
        first, _, missed = self._nodes
        question, answer, summary, note = map(self._key, ("question", "answer", "summary", "note"))
        await self._user("author").read(question, missed)
        await self._user("watcher").read(question, missed)
        for reader, seen in (("of notes", note), ("of answers", answer), ("of summaries", summary)):
            user = self._user(reader)
            await user.read(seen, first)
            await user.read(question, missed)

    def judged(self) -> list[Broken]:
        """What the checker says of it."""
        return broken_promises({name: user.lived for name, user in self.users.items()})

    def _key(self, what: str) -> str:
        return f"{self._name}-{what}"

    def _user(self, name: str) -> User:
        if name not in self.users:
            session = RingSession(
                self._ring,
                "talk",
                guarantee=self._policy.guarantee,
                now_us=lambda: time.time_ns() // 1000,
                read=self._policy.level,
            )
            self.users[name] = User(session, self._policy.level)
        return self.users[name]


@dataclass(frozen=True, slots=True)
class Seen:
    """broken: how often each promise was, in all conversations of an arm. replicas_a_read: asked
    for one read, on average."""

    broken: dict[Promise, int]
    replicas_a_read: float

    @property
    def total(self) -> int:
        """All of them together."""
        return sum(self.broken.values())


def run(lab: Lab) -> Result:
    """One outage for the conversations of all arms."""
    conversations = 20 if lab.quick else 100
    seen = asyncio.run(measure(lab, RingBed.of(lab.runtime), conversations))
    return judge(seen, conversations)


async def measure(lab: Lab, bed: RingBed, conversations: int) -> dict[str, Seen]:
    """All talk without node 3, then all look again with it."""
    async with bed.client("models", _TABLE) as ring:
        held = {
            arm: [Conversation(ring, arm, number) for number in range(conversations)]
            for arm in ARMS
        }
        async with bed.without(ring, 3):
            for several in held.values():
                await asyncio.gather(*(one.talk() for one in several))
        lab.note("node 3 is back, and has missed every conversation")
        for several in held.values():
            await asyncio.gather(*(one.look_again() for one in several))
    seen: dict[str, Seen] = {}
    for arm, several in held.items():
        users = [user for one in several for user in one.users.values()]
        broken = count_by_promise(found for one in several for found in one.judged())
        replicas = sum(user.replicas for user in users) / sum(user.reads for user in users)
        seen[arm] = Seen(broken, replicas)
        lab.note(f"{arm}: {seen[arm].total} promises broken, {replicas:.2f} replicas a read")
    return seen


def judge(seen: dict[str, Seen], conversations: int) -> Result:
    """The arms, and what is claimed of them."""
    one, quorum, own, monotonic, causal = (seen[arm] for arm in ARMS)
    shape = (
        Claim(
            "Reading any one replica breaks every promise, once in each conversation.",
            all(one.broken[promise] == conversations for promise in JUDGED),
            _words(one),
        ),
        Claim(
            "A token of one's own writes keeps read your writes, and nothing else.",
            own.broken[Promise.READ_YOUR_WRITES] == 0 and own.total == one.total - conversations,
            _words(own),
        ),
        Claim(
            "A token of one's own reads keeps monotonic reads, and nothing else.",
            monotonic.broken[Promise.MONOTONIC_READS] == 0
            and monotonic.total == one.total - conversations,
            _words(monotonic),
        ),
        Claim(
            "A token that values carry along keeps all of them, as quorums do.",
            causal.total == 0 and quorum.total == 0,
            f"causal: {causal.total} broken, quorum: {quorum.total}",
        ),
        Claim(
            "It asks fewer replicas a read than a quorum, though most reads here are the bad case.",
            causal.replicas_a_read < quorum.replicas_a_read,
            f"{causal.replicas_a_read:.2f} against {quorum.replicas_a_read:.2f}",
        ),
    )
    arms = tuple(
        Arm(
            name,
            "control" if name == "one" else "treatment",
            {
                **{promise.replace(" ", "_"): one.broken[promise] for promise in JUDGED},
                "replicas_a_read": round(one.replicas_a_read, 2),
            },
            ((0.0, float(one.total)),),
        )
        for name, one in seen.items()
    )
    return Result(
        arms=arms,
        shape=shape,
        plot=Plot(Axis(""), Axis("broken promises"), "bars"),
        notes=(
            f"{conversations} conversations an arm; writes wait for a quorum everywhere.",
            "Nothing heals node 3 here: the order of the reads, not luck, decides what they meet.",
            "Where all replicas are well, a token costs nothing: one replica a read.",
        ),
    )


def _words(seen: Seen) -> str:
    return ", ".join(f"{promise} {seen.broken[promise]}" for promise in JUDGED)


EXPERIMENT = Experiment(
    slug="consistency-models",
    question="What are users shown by a store whose replicas differ, and what does order cost?",
    varied="the level of reads, and what the session's token remembers",
    fixed="the same conversations, quorum writes, one replica that missed them all",
    run=run,
    topics=("A15",),
    needs=("cassandra",),
)
