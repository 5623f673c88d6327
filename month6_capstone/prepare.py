"""Prepare the shop's stores before its processes start: tables and first rows, or topics.

    python -m month6_capstone prepare-tables     migrate every database, seed what is missing
    python -m month6_capstone prepare-topics     create the topics that are missing
    python -m month6_capstone prepare            both
    python -m month6_capstone secrets            make the secrets of the container stack

Settings come from the same variables as the processes'. Every step may be repeated.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

from month6_capstone.processes import PROCESSES, settings_of
from month6_capstone.seeding import SeedSettings, seed_accounts, seed_catalog, seed_stock
from month6_capstone.topology import SHARD_NAMES, all_topics
from scalelab.clients.kafka import ensure_topics
from scalelab.errors import InvalidInput
from scalelab.web.process import ServiceSettings

_OWNERS = ("identity", "catalog", "payments", "inventory", "orders")


async def prepare_tables() -> None:
    """Migrate all databases, then seed them side by side. Raises Unavailable if one is away."""
    for name in _OWNERS:
        await asyncio.to_thread(_migrate, name)
    seed = SeedSettings()
    async with asyncio.TaskGroup() as group:
        group.create_task(seed_catalog(_dsn("CATALOG"), seed))
        group.create_task(seed_accounts(_dsn("IDENTITY"), seed))
        group.create_task(seed_stock(_dsn("INVENTORY"), seed))


async def prepare_topics() -> None:
    """Create the missing topics; existing ones keep their partitions."""
    await ensure_topics(_variable("PAYMENTS_KAFKA_BOOTSTRAP"), all_topics())


async def prepare() -> None:
    """Everything, one after the other."""
    await prepare_tables()
    await prepare_topics()


async def secrets() -> None:
    """Make the secrets of the container stack in SECRETS_DIR."""
    from month6_capstone.credentials import make_credentials, make_database_passwords

    folder = Path(_variable("SECRETS_DIR"))
    make_credentials(folder)
    hosts = ["shop-db", *SHARD_NAMES, *(f"{name}-replica" for name in SHARD_NAMES)]
    make_database_passwords(folder, hosts)


STEPS = {
    "prepare": prepare,
    "prepare-tables": prepare_tables,
    "prepare-topics": prepare_topics,
    "secrets": secrets,
}
"""Command-line word → step."""


def _migrate(name: str) -> None:
    module = importlib.import_module(PROCESSES[name].module)
    migrate = cast(Callable[[ServiceSettings], None], module.migrate)
    migrate(settings_of(name))


def _dsn(prefix: str) -> str:
    return _variable(f"{prefix}_DATABASE_DSN")


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InvalidInput(f"the variable {name} is not set", field=name)
    return value
