"""Transactions on whoever leads: found again after a failover, repeated within a bound.

    async with LeaderDatabase(directory, dsns, clock=SystemClock(), random=Random()) as database:
        done = await database.run(work, idempotent=True)   # done.answer, done.lsn, done.timeline

What a caller is told
    Done                  committed; the lsn and timeline say where
    Unavailable           no leader within `give_up_after_s`; nothing was changed
    OutcomeUnknown        the connection broke in COMMIT, or the commit stands on a timeline that
                          was left, and `work` may not be repeated: ask for its effect by its key
                          before doing anything else
    `idempotent=True`     `work` writes under a key of its own and does nothing the second time:
                          an unknown outcome is settled by running it again on the new leader

Before a write the leader must have confirmed within `confirm_every_s` that it holds the lease
(leadership I3): a PostgreSQL whose Patroni is dead goes on taking writes, and nothing on the
connection tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Generic, Self, TypeVar

from psycopg import AsyncConnection

from month2_databases.failover.directory import PatroniDirectory
from month2_databases.failover.leadership import must_confirm
from scalelab.clients.postgres import CommitPosition, Database, PostgresSettings
from scalelab.clock import Clock
from scalelab.errors import InvalidInput, OutcomeUnknown, ScalelabError, Unavailable
from scalelab.resilience.backoff import Backoff
from scalelab.resilience.retry import may_repeat

Answer = TypeVar("Answer")
Work = Callable[[AsyncConnection], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class FailoverPolicy:
    """give_up_after_s: of one run; longer than the leader's lease, or no failover is outlived.

    confirm_every_s: how long a leader is believed. backoff: between two tries.
    """

    give_up_after_s: float = 40.0
    confirm_every_s: float = 1.0
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.1, factor=2.0, cap_s=1.0))


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Told to the hook: writes go to `node` now."""

    node: str
    timeline: int


@dataclass(frozen=True, slots=True)
class Done(Generic[Answer]):
    """A committed run. tries: 1 if the first went well. lsn: bytes, at or after the commit."""

    answer: Answer
    node: str
    timeline: int
    lsn: int
    tries: int


@dataclass(slots=True)
class _Leader:
    node: str
    timeline: int
    database: Database
    confirmed_at_s: float


class LeaderDatabase:
    """An async context manager; safe to use from many tasks. dsns: node name to DSN.

    settings: of each node's pool; its `dsn` is ignored. hook: told of every new leader.
    """

    def __init__(
        self,
        directory: PatroniDirectory,
        dsns: Mapping[str, str],
        *,
        clock: Clock,
        random: Random,
        policy: FailoverPolicy | None = None,
        settings: PostgresSettings | None = None,
        hook: Callable[[LeaderChanged], None] | None = None,
    ) -> None:
        if not dsns:
            raise InvalidInput("a cluster has at least one node", field="dsns")
        self._directory = directory
        self._dsns = dict(dsns)
        self._clock = clock
        self._random = random
        self._policy = policy or FailoverPolicy()
        self._settings = settings or PostgresSettings("")
        self._hook = hook
        self._leader: _Leader | None = None
        self._looking = asyncio.Lock()
        self.fence = 0
        """The highest timeline known; nothing is written below it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._forget(self._leader)

    async def run(self, work: Work[Answer], *, idempotent: bool = False) -> Done[Answer]:
        """`work` in one transaction on the leader, repeated while that is allowed and in time."""
        deadline_s = self._clock.monotonic_s() + self._policy.give_up_after_s
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(work, tries)
            except ScalelabError as error:
                wait_s = self._policy.backoff.delay_s(tries, self._random.random())
                in_time = self._clock.monotonic_s() + wait_s < deadline_s
                if not (in_time and may_repeat(error, idempotent=idempotent)):
                    raise
                await asyncio.sleep(wait_s)

    async def _once(self, work: Work[Answer], tries: int) -> Done[Answer]:
        leader = await self._confirmed()
        position = CommitPosition()
        try:
            async with leader.database.transaction(position=position) as conn:
                answer = await work(conn)
        except (Unavailable, OutcomeUnknown):
            await self._forget(leader)
            raise
        timeline = position.timeline or leader.timeline
        if timeline < self.fence:
            raise OutcomeUnknown(f"{leader.node} committed on timeline {timeline}, which was left")
        self.fence = max(self.fence, timeline)
        return Done(answer, leader.node, timeline, position.lsn or 0, tries)

    async def _confirmed(self) -> _Leader:
        """The leader, asked again if its word is too old. Raises Unavailable if there is none."""
        async with self._looking:
            leader, now_s = self._leader, self._clock.monotonic_s()
            if leader is not None and must_confirm(
                confirmed_at_s=leader.confirmed_at_s,
                now_s=now_s,
                confirm_every_s=self._policy.confirm_every_s,
            ):
                claim = await self._directory.claim(leader.node)
                if claim is None or claim.timeline < self.fence:
                    await self._forget(leader)
                leader.confirmed_at_s = now_s
            if self._leader is None:
                self._leader = await self._find()
            return self._leader

    async def _find(self) -> _Leader:
        asked_at_s = self._clock.monotonic_s()
        claim = await self._directory.leader(fence=self.fence)
        if claim is None or claim.node not in self._dsns:
            raise Unavailable("no node leads this cluster just now", code="no_leader")
        self.fence = max(self.fence, claim.timeline)
        settings = replace(self._settings, dsn=self._dsns[claim.node])
        database = Database(settings, name=claim.node)
        await database.__aenter__()
        if self._hook is not None:
            self._hook(LeaderChanged(claim.node, claim.timeline))
        return _Leader(claim.node, claim.timeline, database, asked_at_s)

    async def _forget(self, leader: _Leader | None) -> None:
        """Close the pool of a leader that failed, unless another task did so already."""
        if leader is None or self._leader is not leader:
            return
        self._leader = None
        await leader.database.__aexit__(None, None, None)
