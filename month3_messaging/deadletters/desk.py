"""The desk: dead letters are looked at, edited, replayed or discarded, and all of it is noted.

    dead-letter topics ──collect──► letters + audit ──send──► first retry topic of the group
                                           ▲
                                  list · edit · replay · discard

Guarantees
    D1  A letter is kept before its offset is committed; a second copy of it is one letter.
    D2  A replay is decided in a transaction with its line in the audit, and sent after its commit
        at least once, whoever dies when. Deciding again does not send again.
    D3  The effect of a replay happens once: the event keeps its id, and the consumer's inbox
        decides. What was edited after its effect had happened therefore changes nothing.
    D4  A letter leaves only by `clean`: settled, and old; the audit says that, by whom, and what
        had been done to it. One that waits for a decision stays, however old.

Replays go to the *first retry topic of the group that gave up*: no other consumer sees them.
Order is gone for a dead letter: events of its key were handled long ago.

What goes on with Kafka is in carrying.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.deadletters import letter as letters
from month3_messaging.deadletters import letters_postgres as table
from month3_messaging.deadletters.letter import Letter, State
from month3_messaging.deadletters.letters_postgres import AuditLine, Kept
from month3_messaging.workers import DEFAULT_LADDER, RetryStep, dead_letter_topic
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Source:
    """A group whose letters the desk keeps. topics: what it reads. ladder: its retry topics."""

    group: str
    topics: Sequence[str]
    ladder: Sequence[RetryStep] = DEFAULT_LADDER

    @property
    def letter_topics(self) -> dict[str, str]:
        """Its dead-letter topics, and the topic that each belongs to."""
        return {dead_letter_topic(topic, self.group): topic for topic in self.topics}


class Desk:
    """Looks at letters and decides on them. who: whoever decides, for the audit."""

    def __init__(
        self,
        database: Database,
        sources: Sequence[Source],
        *,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        self.database = database
        self.sources = {source.group: source for source in sources}
        self._reached = reached
        self.decided = asyncio.Event()
        """Set when something may wait to be sent."""

    async def list(
        self, state: State | None = State.PARKED, *, after: int = 0, limit: int = 50
    ) -> list[Kept]:
        """Letters with ids over `after`, ascending."""
        async with self.database.autocommit(read_only=True) as conn:
            return await table.list_letters(conn, state, after=after, limit=limit)

    async def show(self, letter_id: int) -> tuple[Kept, list[AuditLine]]:
        """A letter and what was done to it. Raises NotFound `unknown_letter`."""
        async with self.database.transaction(read_only=True) as conn:
            return await table.find(conn, letter_id), await table.audit_of(conn, letter_id)

    async def audit(self, letter_id: int) -> list[AuditLine]:
        """What was done to a letter, also to one that is gone. Raises NotFound."""
        async with self.database.autocommit(read_only=True) as conn:
            lines = await table.audit_of(conn, letter_id)
        if not lines:
            raise NotFound(f"there never was a letter {letter_id}", code="unknown_letter")
        return lines

    async def clean(self, *, older_than_s: float, who: str, limit: int = 500) -> int:
        """Take away at most `limit` letters that were settled longer ago (D4); returns how many.

        Keep them for longer than their topics keep events: a copy that is read again afterwards
        is a new letter.
        """
        async with self.database.transaction() as conn:
            return await table.clean(conn, older_than_s=older_than_s, who=who, limit=limit)

    async def edit(
        self,
        letter_id: int,
        *,
        who: str,
        headers: Mapping[str, str | None],
        value: bytes | None = None,
        seen: int | None = None,
    ) -> Kept:
        """Change its content as `letter.edited` does. seen: the version that was looked at.

        Raises Conflict `letter_changed` or `letter_not_parked`, InvalidInput, TooLarge, NotFound.
        """

        def decide(letter: Letter) -> Letter:
            return letters.edited(letter, headers=headers, value=value)

        return await self._change(letter_id, decide, who=who, what="edited", seen=seen)

    async def replay(self, letter_id: int, *, who: str, seen: int | None = None) -> Kept:
        """Decide that it is sent again. Repeating it changes nothing.

        Raises as `edit`, and Conflict `unknown_group` if nobody serves its group any more.
        """

        def decide(letter: Letter) -> Letter:
            if letter.group not in self.sources:
                raise Conflict(f"no ladder of {letter.group} is known here", code="unknown_group")
            return letters.replayed(letter)

        kept = await self._change(letter_id, decide, who=who, what="replayed", seen=seen)
        self.decided.set()
        return kept

    async def discard(self, letter_id: int, *, who: str, seen: int | None = None) -> Kept:
        """Give it up; it stays to be looked at. Raises as `edit`; repeating it changes nothing."""
        return await self._change(
            letter_id, letters.discarded, who=who, what="discarded", seen=seen
        )

    async def _change(
        self,
        letter_id: int,
        decide: Callable[[Letter], Letter],
        *,
        who: str,
        what: str,
        seen: int | None,
    ) -> Kept:
        async with self.database.transaction() as conn:
            kept = await table.change(conn, letter_id, decide, who=who, what=what, seen=seen)
            self._reached(CrashPoint.DESK_BEFORE_COMMIT)
        self._reached(CrashPoint.DESK_AFTER_COMMIT)
        return kept
