"""A consumer as a process of its own that kills or freezes itself; run by the crash tests.

Environment: DSN, BOOTSTRAP, TOPIC, GROUP; CRASH_POINT and CRASH_AT to die by SIGKILL at the
how-manieth passage of a point; FREEZE_AT to stop itself (SIGSTOP) as the how-manieth handler
begins.
"""

from __future__ import annotations

import asyncio
import os
import signal

from month3_messaging.broker import Event
from month3_messaging.inbox import first_time
from month3_messaging.workers import ConsumerSettings, EventConsumer
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.telemetry import TelemetrySettings, build_telemetry


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

    def reached(point: str) -> None:
        if point == os.environ.get("CRASH_POINT"):
            crash.passed()

    async with Database(PostgresSettings(os.environ["DSN"]), name="test") as database:

        async def handle(event: Event) -> None:
            freeze.passed()
            async with database.transaction() as conn:
                if await first_time(conn, group, event.id):
                    await conn.execute(
                        "INSERT INTO effect (event_id, key, number) VALUES (%s, %s, %s)",
                        (event.id, event.subject, event.data["number"]),
                    )

        async with EventConsumer(
            os.environ["BOOTSTRAP"],
            group,
            [os.environ["TOPIC"]],
            {"test.thing.happened.v1": handle},
            telemetry=build_telemetry(TelemetrySettings(service="consumer")),
            settings=ConsumerSettings(session_timeout_s=6.0, commit_every_s=0.0, max_records=5),
            reached=reached,
        ):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
