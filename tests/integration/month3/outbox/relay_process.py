"""A relay as a process of its own that kills itself at a named point; run by the crash tests.

Environment: DSN, BOOTSTRAP; CRASH_POINT and CRASH_AT (the how-manieth passage), or neither.
"""

from __future__ import annotations

import asyncio
import os
import signal

from month3_messaging.outbox import Relay, RelayMetrics, RelaySettings
from scalelab.clients.kafka import open_producer
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.telemetry import TelemetrySettings, build_telemetry


class Crash:
    """Counts passages of a point and dies at the given one, as kill -9 would have it."""

    def __init__(self, point: str, passage: int) -> None:
        self._point = point
        self._left = passage

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    telemetry = build_telemetry(TelemetrySettings(service="relay"))
    async with (
        Database(PostgresSettings(os.environ["DSN"]), name="test") as database,
        open_producer(os.environ["BOOTSTRAP"], "relay-process") as producer,
    ):
        relay = Relay(
            database,
            producer,
            metrics=RelayMetrics(telemetry.registry),
            log=telemetry.log,
            settings=RelaySettings(batch=20, poll_s=0.05, standby_s=0.05),
            reached=Crash(os.environ.get("CRASH_POINT", ""), int(os.environ.get("CRASH_AT", "0"))),
        )
        await relay.run()


if __name__ == "__main__":
    asyncio.run(main())
