"""A consumer as a process of its own that kills or freezes itself; run by the crash tests.

Environment: DSN, BOOTSTRAP, TOPIC, GROUP; CRASH_POINT and CRASH_AT to die by SIGKILL at the
how-manieth passage of a point; FREEZE_AT to stop itself (SIGSTOP) as the how-manieth handler
begins; ON_FAILURE and STATIC_MEMBER as in ConsumerSettings; POISON, the number of the events that
always fail, and FLAKY, of those that fail at their first two attempts in this process; IN_BATCHES
to carry out up to five events at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from month3_messaging.broker import Event
from month3_messaging.inbox import first_time
from month3_messaging.workers import (
    ConsumerSettings,
    EffectOnce,
    EventConsumer,
    OnFailure,
    RetryStep,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.telemetry import TelemetrySettings, build_telemetry

LADDER = (RetryStep("short", 0.02), RetryStep("long", 0.05))


class Countdown:
    """Sends this process a signal at the given passage."""

    def __init__(self, passage: int, number: signal.Signals) -> None:
        self._left = passage
        self._signal = number

    def passed(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signal)


async def main() -> None:
    crash = Countdown(int(os.environ.get("CRASH_AT", "0")), signal.SIGKILL)
    freeze = Countdown(int(os.environ.get("FREEZE_AT", "0")), signal.SIGSTOP)
    group = os.environ["GROUP"]
    poison, flaky = (int(os.environ.get(name, "-1")) for name in ("POISON", "FLAKY"))
    attempts: Counter[UUID] = Counter()

    def reached(point: str) -> None:
        if point == os.environ.get("CRASH_POINT"):
            crash.passed()

    async with Database(PostgresSettings(os.environ["DSN"]), name="test") as database:

        async def handle(event: Event) -> None:
            freeze.passed()
            attempts[event.id] += 1
            number = event.data["number"]
            if number == poison or (number == flaky and attempts[event.id] <= len(LADDER)):
                raise LookupError("a bug")
            async with database.transaction() as conn:
                if await first_time(conn, group, event.id):
                    await conn.execute(
                        "INSERT INTO effect (event_id, key, number) VALUES (%s, %s, %s)",
                        (event.id, event.subject, number),
                    )

        async def take_effect(conn: AsyncConnection[Any], events: Sequence[Event]) -> None:
            for event in events:
                if event.data["number"] == poison:
                    raise LookupError("a bug")
                await conn.execute(
                    "INSERT INTO effect (event_id, key, number) VALUES (%s, %s, %s)",
                    (event.id, event.subject, event.data["number"]),
                )

        once = EffectOnce(database, group, take_effect, reached=reached)
        in_batches = os.environ.get("IN_BATCHES") is not None
        async with EventConsumer(
            os.environ["BOOTSTRAP"],
            group,
            [os.environ["TOPIC"]],
            {"test.thing.happened.v1": once.alone if in_batches else handle},
            in_batches=once.together if in_batches else None,
            telemetry=build_telemetry(TelemetrySettings(service="consumer")),
            settings=ConsumerSettings(
                session_timeout_s=3.0,
                commit_every_s=0.0,
                max_records=5,
                batch_max=5,
                ladder=LADDER,
                on_failure=OnFailure(os.environ.get("ON_FAILURE", "move_aside")),
                static_member=os.environ.get("STATIC_MEMBER"),
            ),
            reached=reached,
        ):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
