"""Three real members of etcd: one leads, and they agree without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import EtcdCluster

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def bed(server_root: Path) -> Iterator[tuple[Runtime, EtcdCluster]]:
    """A cluster of this file alone: a member of it is killed."""
    cluster = EtcdCluster("three")
    with Runtime(server_root / "etcd", private=True, is_disposable=True) as runtime:
        cluster.start(runtime)
        yield runtime, cluster


def test_three_members_have_one_leader_and_each_gives_the_same_answer(
    bed: tuple[Runtime, EtcdCluster],
) -> None:
    _, cluster = bed
    leader = cluster.leader()
    assert leader in cluster.members
    leader.gateway.put("agreed", "yes")
    assert [member.gateway.get("agreed") for member in cluster.members] == [("yes", 0)] * 3


def test_without_their_leader_the_others_choose_another_one(
    bed: tuple[Runtime, EtcdCluster],
) -> None:
    runtime, cluster = bed
    dead = cluster.leader()
    runtime.kill(dead.name)
    try:
        heir = cluster.leader()
        assert heir is not dead
    finally:
        runtime.restart(dead.name)
