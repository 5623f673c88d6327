"""One Patroni cluster for the tests that break it; each gets it whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from month2_databases.failover import Attempt, Outcome

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import PatroniCluster, PatroniNode

_FAST = {"fsync": "off", "full_page_writes": "on"}
_LSN = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


@dataclass(frozen=True)
class Bed:
    """Three nodes with the table `entry`, and the runtime that breaks them."""

    runtime: Runtime
    cluster: PatroniCluster

    def fail_over(self, node: PatroniNode) -> PatroniNode:
        """The node that leads after `node`, whose lease ends now instead of after its ttl."""
        self.cluster.expire_lease()
        return self.cluster.leader(other_than=node.name)

    def dsns(self) -> dict[str, str]:
        """Every node's DSN of the ordinary role."""
        return {node.name: node.dsn("shop", "shop") for node in self.cluster.nodes}

    def directory(self) -> dict[str, str]:
        """Every node's Patroni."""
        return {node.name: node.rest_url for node in self.cluster.nodes}

    def write(self, node: PatroniNode, keys: list[str]) -> list[Attempt]:
        """One acknowledged commit a key, with where it stands in the log."""
        done: list[Attempt] = []
        with psycopg.connect(node.dsn("shop", "shop"), autocommit=True, connect_timeout=10) as conn:
            for key in keys:
                conn.execute("INSERT INTO entry VALUES (%s)", (key,))
                row = conn.execute(_LSN).fetchone()
                assert row is not None
                done.append(Attempt(key, Outcome.ACKNOWLEDGED, lsn=int(row[0])))
        return done

    def found(self, node: PatroniNode) -> list[str]:
        """The keys of every row on this node."""
        with psycopg.connect(node.dsn("shop", "shop"), connect_timeout=10) as conn:
            return [str(row[0]) for row in conn.execute("SELECT key FROM entry").fetchall()]


@pytest.fixture(scope="session")
def patroni(server_root: Path) -> Iterator[Bed]:
    """The cluster as the last test left it; a test asks for `bed`."""
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import PatroniCluster, PatroniSettings

    with Runtime(server_root / "failover", private=True, is_disposable=True) as runtime:
        cluster = PatroniCluster("shop", settings=PatroniSettings(loop_wait_s=1, postgres=_FAST))
        cluster.start(runtime)
        cluster.ensure_database("shop", "shop")
        with psycopg.connect(cluster.leader().dsn("shop", "shop"), autocommit=True) as conn:
            conn.execute("CREATE TABLE entry (key text)")
        yield Bed(runtime, cluster)


@pytest.fixture
def bed(patroni: Bed) -> Bed:
    """Three nodes that replicate, asynchronously, and an empty table."""
    patroni.cluster.repair(patroni.runtime)
    patroni.cluster.configure(synchronous_mode=False, maximum_lag_on_failover=1 << 20)
    leader = patroni.cluster.leader()
    with psycopg.connect(leader.dsn("shop", "shop"), autocommit=True) as conn:
        conn.execute("TRUNCATE entry")
    return patroni
