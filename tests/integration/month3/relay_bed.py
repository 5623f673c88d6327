"""Relays of both kinds on one database, and what their topic must show."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from month3_messaging.outbox import (
    FollowLog,
    LogRelaySettings,
    RelayMetrics,
    RelaySettings,
    SlotMetrics,
    SlotPlace,
    count_unsent,
    keep_relaying,
)
from scalelab.clients.kafka import Record
from scalelab.clients.postgres import Database
from scalelab.lab.servers import Postgres
from scalelab.telemetry import Telemetry

FAST = RelaySettings(poll_s=0.05, standby_s=0.05)
OWNER = "orders team"


class Kind(StrEnum):
    """Where a relay reads."""

    POLLING = "polling"
    LOG = "log"


@dataclass
class Relays:
    """Starts relays of one kind on one database."""

    kind: Kind
    database: Database
    bootstrap: str
    place: SlotPlace
    telemetry: Telemetry
    settings: RelaySettings = FAST
    log_settings: LogRelaySettings = field(
        default_factory=lambda: LogRelaySettings(slot_retry_s=0.2)
    )

    def __post_init__(self) -> None:
        self.metrics = RelayMetrics(self.telemetry.registry)
        self.slot_metrics = SlotMetrics(self.telemetry.registry)

    @asynccontextmanager
    async def running(
        self, relays: int = 1, *, log_settings: LogRelaySettings | None = None
    ) -> AsyncIterator[None]:
        """So many at once, until the end of the block."""
        follow = None
        if self.kind is Kind.LOG:
            follow = FollowLog(self.place, self.slot_metrics, log_settings or self.log_settings)
        tasks = [
            asyncio.create_task(
                keep_relaying(
                    self.database,
                    self.bootstrap,
                    client_id=f"relay-{number}",
                    metrics=self.metrics,
                    log=self.telemetry.log,
                    settings=self.settings,
                    follow=follow,
                )
            )
            for number in range(relays)
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def metric(self, name: str) -> float:
        """A metric of this database; 0 where it was never set."""
        labels = {"database": self.database.name}
        return self.telemetry.registry.get_sample_value(name, labels) or 0.0

    async def are_following(self) -> bool:
        return self.metric("scalelab_outbox_following_log") == 1


def slot_place(server: Postgres, dsn: str) -> SlotPlace:
    """A slot of the database's own; its role may replicate from now on."""
    parts = conninfo_to_dict(dsn)
    with psycopg.connect(server.superuser_dsn(), autocommit=True) as conn:
        conn.execute(
            sql.SQL("ALTER ROLE {} REPLICATION").format(sql.Identifier(str(parts["user"])))
        )
    return SlotPlace(dsn, f"outbox_{parts['dbname']}", OWNER)


async def position(database: Database) -> str:
    async with database.autocommit() as conn:
        cursor = await conn.execute("SELECT pg_current_wal_insert_lsn()::text")
        row = await cursor.fetchone()
    assert row is not None
    return row[0]


async def is_confirmed(relays: Relays, lsn: str) -> bool:
    """Whether the slot keeps nothing from before `lsn` for its reader."""
    async with relays.database.autocommit() as conn:
        cursor = await conn.execute(
            "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots"
            " WHERE slot_name = %s",
            (lsn, relays.place.name),
        )
        row = await cursor.fetchone()
    return bool(row and row[0])


async def everything_sent(database: Database) -> bool:
    async with database.autocommit() as conn:
        return await count_unsent(conn) == 0


def first_copies(records: Sequence[Record]) -> dict[str, list[int]]:
    """Per key, the numbers of the events in the order in which each was first on the topic."""
    seen: set[str] = set()
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        if record.headers["ce_id"] not in seen:
            seen.add(record.headers["ce_id"])
            assert record.key is not None
            assert record.value is not None
            numbers[record.key].append(json.loads(record.value)["number"])
    return numbers
