"""Patroni, unmodified, keeps its leader's lease in the store instead of in etcd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.integration.month5.node.cluster import Cluster

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import PatroniCluster

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def bed(cluster: Cluster, server_root: Path) -> Iterator[tuple[Runtime, PatroniCluster]]:
    from scalelab.lab.runtime import Runtime
    from scalelab.lab.servers import EtcdGateway, PatroniCluster, PatroniSettings

    port = urlsplit(cluster.stack.etcd_urls[2]).port
    assert port is not None
    gateway = EtcdGateway("the store", port)
    settings = PatroniSettings(loop_wait_s=1, postgres={"fsync": "off"})
    with Runtime(server_root / "patroni-on-the-store", private=True) as runtime:
        made = PatroniCluster("elected", nodes=2, settings=settings, etcd=gateway)
        made.start(runtime)
        yield runtime, made


def test_patroni_elects_a_primary_and_another_one_when_it_is_killed(
    bed: tuple[Runtime, PatroniCluster],
) -> None:
    runtime, patroni = bed
    first = patroni.leader()
    with psycopg.connect(first.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'before the kill' AS word")
    patroni.configure(synchronous_mode=True)
    with psycopg.connect(first.dsn(), autocommit=True) as connection:
        connection.execute("INSERT INTO kept VALUES ('acknowledged')")
    runtime.kill(first.name)
    patroni.expire_lease()
    second = patroni.leader(other_than=first.name)
    with psycopg.connect(second.dsn(), autocommit=True) as connection:
        found = [row[0] for row in connection.execute("SELECT word FROM kept").fetchall()]
        connection.execute("INSERT INTO kept VALUES ('after the kill')")
    assert sorted(found) == ["acknowledged", "before the kill"]
    assert patroni.holder() == second.name
