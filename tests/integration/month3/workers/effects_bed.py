"""Events to publish, and a handler whose effects can be counted and troubled."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.inbox import first_time
from month3_messaging.workers import ConsumerSettings, RetryStep
from scalelab.clients.kafka import Message, open_producer
from scalelab.clients.postgres import Database
from tests.integration.month3.messaging_bed import make_event, poll_until

KIND = "test.thing.happened.v1"
LADDER = (RetryStep("5s", 0.05), RetryStep("1m", 0.1))
FAST = ConsumerSettings(
    ladder=LADDER,
    backoff_s=(0.01, 0.05),
    commit_every_s=0.0,
    restart_s=0.1,
    revoke_grace_s=1.0,
    session_timeout_s=6.0,
)


async def publish(bootstrap: str, topic: str, events: Sequence[Event]) -> None:
    async with open_producer(bootstrap, "test") as producer:
        await producer.send_all(
            Message(topic, event.subject, to_value(event), to_headers(event)) for event in events
        )


class Effects:
    """A handler with an effect in the database, guarded by the inbox, and hooks for trouble."""

    def __init__(self, database: Database, group: str) -> None:
        self.database = database
        self.group = group
        self.attempts: Counter[Any] = Counter()
        self.trouble: Callable[[Event], Awaitable[None]] | None = None

    async def __call__(self, event: Event) -> None:
        self.attempts[event.id] += 1
        async with self.database.transaction() as conn:
            if not await first_time(conn, self.group, event.id):
                return
            await conn.execute(
                "INSERT INTO effect (event_id, key, number) VALUES (%s, %s, %s)",
                (event.id, event.subject, event.data["number"]),
            )
            if self.trouble is not None:
                await self.trouble(event)

    async def count(self) -> int:
        return sum(map(len, (await self.by_key()).values()))

    async def by_key(self) -> Mapping[str, list[int]]:
        async with self.database.autocommit() as conn:
            cursor = await conn.execute("SELECT key, number FROM effect ORDER BY id")
            found: defaultdict[str, list[int]] = defaultdict(list)
            for key, number in await cursor.fetchall():
                found[key].append(number)
            return found

    async def reaches(self, count: int) -> None:
        async def enough() -> bool:
            return await self.count() >= count

        await poll_until(enough, f"{count} effects")


def numbered(keys: int, each: int) -> list[Event]:
    return [make_event(f"key-{key}", n) for n in range(each) for key in range(keys)]
