"""What needs a person on the shards of a stack: slots, archives, transactions in doubt, schemas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg

from month2_databases.replication import (
    SlotPolicy,
    judge_archiver,
    judge_slots,
    read_archiver,
    read_slots,
)
from month2_databases.sharding import (
    DECISION_SCHEMA,
    DecisionRegister,
    Phase,
    ShardMigrations,
    TwoPhase,
)
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import InvalidInput, Unavailable


async def slots(primaries: Mapping[str, str]) -> dict[str, Any]:
    """Slots and archive of each primary, and what is wrong with them. primaries: superuser DSNs.

    Raises Unavailable if a primary does not answer: its slots cannot be judged.
    """
    shown: dict[str, Any] = {}
    for name, dsn in primaries.items():
        try:
            async with await psycopg.AsyncConnection.connect(
                dsn, autocommit=True, connect_timeout=5
            ) as conn:
                shown[name] = await _judged(conn)
        except psycopg.OperationalError as error:
            raise Unavailable(
                f"{name} does not answer, so its slots cannot be judged. Try: ./lab status.",
                code="database_unavailable",
            ) from error
    return shown


async def _judged(conn: psycopg.AsyncConnection) -> dict[str, Any]:
    found, owners = await read_slots(conn)
    alerts = [
        {
            "slot": alert.slot,
            "trouble": str(alert.trouble),
            "severity": alert.severity.name.lower(),
            "advice": alert.advice,
        }
        for alert in judge_slots(found, owners, SlotPolicy())
    ]
    alerts += [
        {
            "slot": None,
            "trouble": f"archive {alert.trouble}",
            "severity": "error",
            "advice": alert.advice,
        }
        for alert in judge_archiver(await read_archiver(conn))
    ]
    listed = [
        {
            "slot": one.name,
            "owner": owners.get(one.name),
            "active": one.is_active,
            "status": one.wal_status,
            "kept_bytes": one.kept_bytes,
            "kept_max_bytes": one.kept_max_bytes,
        }
        for one in found
    ]
    return {"slots": listed, "alerts": alerts}


async def in_doubt(shards: Mapping[str, str], register: str) -> dict[str, list[str]]:
    """Prepared transactions by id, and the shards that hold them. register: DSN of the decisions'.

    shards: superuser DSNs, who alone may end what another role has prepared.
    """
    async with _two_phase(shards, register) as coordinator:
        found = await coordinator.in_doubt()
    return {str(tx): list(names) for tx, names in found.items()}


async def recover(
    shards: Mapping[str, str], register: str, *, older_than_s: float
) -> dict[str, str]:
    """End every transaction in doubt for longer than that; how each ended."""
    async with _two_phase(shards, register) as coordinator:
        ended = await coordinator.recover(older_than_s=older_than_s)
    return {str(tx): outcome.value for tx, outcome in ended.items()}


async def migrate(shards: Mapping[str, str], scripts: Path, phase: str) -> dict[str, Any]:
    """Bring every shard up to a phase. shards: DSNs of the role that owns the schema."""
    try:
        up_to = Phase[phase.upper()]
    except KeyError:
        raise InvalidInput(
            f"{phase!r} is no phase; it is expand, backfill or contract", field="phase"
        ) from None
    report = await asyncio.to_thread(ShardMigrations(shards, scripts).run, up_to)
    held = report.held
    return {
        "phase": up_to.name.lower(),
        "versions": dict(report.versions),
        "failed": {name: error.message for name, error in report.failed.items()},
        "held": held and {"revision": held.revision.name, "waits_for": list(held.waits_for)},
        "complete": report.is_complete,
    }


@asynccontextmanager
async def _two_phase(shards: Mapping[str, str], register: str) -> AsyncGenerator[TwoPhase]:
    async with AsyncExitStack() as stack:
        databases = {
            name: await stack.enter_async_context(
                Database(PostgresSettings(dsn, pool_max=2), name=name)
            )
            for name, dsn in shards.items()
        }
        decisions = await stack.enter_async_context(
            Database(PostgresSettings(register, pool_max=2), name="decisions")
        )
        async with decisions.autocommit() as conn:
            await conn.execute(DECISION_SCHEMA)
        yield TwoPhase(databases, DecisionRegister(decisions), SystemClock())
