"""Clusters of their own for tests that break servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.fixtures.small_disks import small_disks

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres

FAST = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Cluster:
    """shard-0 with a replica, shard-1 without; database and role `orders` on both."""

    runtime: Runtime
    primary: Postgres
    replica: Postgres
    lone: Postgres

    def dsn(self, server: Postgres) -> str:
        return server.dsn("orders", "orders")

    def execute(self, server: Postgres, statement: str, *, database: str = "orders") -> object:
        """Run one statement as superuser; returns the first column of the first row."""
        with psycopg.connect(server.superuser_dsn(database), autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


@pytest.fixture(scope="session")
def cluster(server_root: Path) -> Iterator[Cluster]:
    """Three servers; a test that breaks one repairs it."""
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import Postgres

    with Runtime(server_root / "month2", private=True, is_disposable=True) as runtime:
        primary = Postgres("shard-0", settings=FAST)
        lone = Postgres("shard-1", settings=FAST)
        runtime.start(primary, lone)
        replica = primary.add_replica("shard-0-r1")
        runtime.start(replica)
        for server in (primary, lone):
            server.ensure_database("orders", "orders")
            with psycopg.connect(server.dsn("orders", "orders"), autocommit=True) as conn:
                conn.execute("CREATE TABLE note (k text PRIMARY KEY, v bigint NOT NULL)")
        yield Cluster(runtime, primary, replica, lone)


@pytest.fixture
def small_disk(server_root: Path) -> Iterator[Callable[[int], Path]]:
    """`small_disk(mib)`: a file system of the servers' account, so large; ends with the test."""
    with small_disks(server_root) as mount:
        yield mount


async def eventually(
    claim: Callable[[], Awaitable[bool] | bool], *, what: str, within_s: float = 30.0
) -> None:
    """Ask until the claim holds; fail with `what` after a deadline."""
    deadline_s = time.monotonic() + within_s
    while True:
        answer = claim()
        if answer if isinstance(answer, bool) else await answer:
            return
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Awaitable[None]]:
    """`await wait_until(claim, what="...")`: polling with a deadline."""
    return eventually
