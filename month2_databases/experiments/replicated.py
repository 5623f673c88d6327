"""A replicated cluster of an experiment, a bench or a test: servers, owners of slots, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from month2_databases.replication import (
    ClusterSettings,
    ReplicaSettings,
    name_owner,
)
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import PostgresCluster

DATABASE = "notes"
ROLE = "notes"
KEY = b"a secret of this cluster alone"
_TABLE = """
CREATE TABLE IF NOT EXISTS note (
    k text PRIMARY KEY,
    v bigint NOT NULL,
    filler text NOT NULL DEFAULT ''
)
"""


@dataclass(frozen=True, slots=True)
class Replicated:
    """A running cluster with a database `notes` of a role `notes`, and its table `note(k, v)`."""

    cluster: PostgresCluster
    settings: ClusterSettings


def start_replicated(
    runtime: Runtime,
    name: str,
    *,
    replicas: int = 2,
    settings: Mapping[str, str] | None = None,
    archive: bool = False,
) -> Replicated:
    """Start a primary and its replicas, write down whose each slot is, and make the table."""
    cluster = PostgresCluster(name, replicas=replicas, settings=settings, archive=archive)
    cluster.start(runtime)
    primary = cluster.primary
    with psycopg.connect(primary.superuser_dsn(), autocommit=True) as connection:
        for replica in cluster.replicas:
            name_owner(connection, replica.slot, f"replica {replica.name}")
    dsn = primary.ensure_database(DATABASE, ROLE)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLE)
    word = primary.password(ROLE)
    copies = tuple(
        ReplicaSettings(replica.name, replica.dsn(DATABASE, ROLE, word))
        for replica in cluster.replicas
    )
    return Replicated(cluster, ClusterSettings(name, dsn, copies))
