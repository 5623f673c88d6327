"""An effect for many events in one transaction, each of them once.

    BEGIN · one INSERT into the inbox for all ids · the effect of those that are new · COMMIT

Two round trips and one flush of the log for a batch, instead of for each event. The effect is
called with whatever number of events there is; alone an event is a batch of one, so there is one
code for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from psycopg import AsyncConnection

from month3_messaging import inbox
from month3_messaging.broker import Event
from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.workers.batch_plan import firsts_among
from scalelab.clients.postgres import Database

Effect = Callable[[AsyncConnection[Any], Sequence[Event]], Awaitable[None]]
"""Takes effect in the transaction of the connection; events of a key stand in their order."""


class EffectOnce:
    """Handlers of an event consumer whose effect happens once for each event.

    consumer: the group's name, under which the inbox remembers. effect: what it does outside of the
    transaction may happen more than once.
    """

    def __init__(
        self,
        database: Database,
        consumer: str,
        effect: Effect,
        *,
        reached: Callable[[str], None] = pass_by,
    ) -> None:
        self._database = database
        self._consumer = consumer
        self._effect = effect
        self._reached = reached

    async def alone(self, event: Event) -> None:
        """A handler (handling.py). Raises what the database or the effect raises."""
        await self.together([event])

    async def together(self, events: Sequence[Event]) -> None:
        """A batch handler (batches.py): all that are new take effect, or none does."""
        async with self._database.transaction() as conn:
            ids = [event.id for event in events]
            new = firsts_among(events, await inbox.first_times(conn, self._consumer, ids))
            if new:
                await self._effect(conn, new)
            self._reached(CrashPoint.CONSUMER_BEFORE_COMMIT)
