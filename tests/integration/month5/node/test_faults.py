"""Claims about nodes that are killed, frozen, restarted and wiped, with clients at work."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from month5_kvstore.experiments.judging import judge
from month5_kvstore.log import Identity, PosixDisk, initialise
from month5_kvstore.node import GROUPS
from tests.integration.month5.node.cluster import Cluster, cluster_in, node_name, wait_for
from tests.integration.month5.node.histories import history

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Small snapshots, so that nodes that were away are brought back by one."""
    settings = {"snapshot_entries": "200", "history": "100"}
    with cluster_in(tmp_path_factory.mktemp("kv"), settings=settings) as made:
        yield made


def settle(cluster: Cluster) -> None:
    wait_for(cluster.is_settled, "three equal nodes")


@pytest.mark.anyio
@pytest.mark.timeout(5400)  # of the nightly size
async def test_clients_see_one_copy_while_the_leader_is_killed(
    cluster: Cluster, count: Callable[..., int]
) -> None:
    """50 histories nightly; each kills the leader of the busiest key in the middle."""
    for round_ in range(count(50, share=0.02)):
        keys = [f"killed-{round_}-{number}" for number in range(3)]
        victim = node_name(cluster.leader(keys[0]))
        calls = await history(
            cluster.stack.urls,
            keys,
            calls=count(5000, share=0.05),
            clients=5,
            seed=round_,
            faults={count(5000, share=0.05) // 3: lambda name=victim: cluster.runtime.kill(name)},
        )
        cluster.runtime.restart(victim)
        assert judge(calls) is None
        assert len(calls) > count(5000, share=0.05) // 2
        settle(cluster)


@pytest.mark.anyio
async def test_clients_see_one_copy_while_the_leader_is_frozen_and_comes_back(
    cluster: Cluster, count: Callable[..., int]
) -> None:
    """It still believes that it leads when it goes on; what it answers then must be true."""
    total = count(1000, share=0.25)
    keys = ["frozen-a", "frozen-b"]
    victim = node_name(cluster.leader(keys[0]))
    calls = await history(
        cluster.stack.urls,
        keys,
        calls=total,
        clients=5,
        seed=7,
        faults={
            total // 3: lambda: cluster.runtime.pause(victim),
            2 * total // 3: lambda: cluster.runtime.resume(victim),
        },
    )
    cluster.runtime.resume(victim)
    assert judge(calls) is None
    settle(cluster)


def test_a_leader_that_was_frozen_serves_no_stale_read(cluster: Cluster) -> None:
    """What it knows locally is old; a linearizable read asks a majority first."""
    first = cluster.leader("stale")
    others = tuple(node for node in cluster.nodes if node != first)
    cluster.nodes[first].put("/v1/kv/stale", content=b"old")
    cluster.runtime.pause(node_name(first))
    try:
        second = cluster.leader("stale", others)
        assert cluster.nodes[second].put("/v1/kv/stale", content=b"new").status_code == 200
    finally:
        cluster.runtime.resume(node_name(first))
    assert cluster.nodes[first].get("/v1/kv/stale").content == b"new"
    settle(cluster)


def test_everything_answered_is_there_after_all_nodes_were_killed(cluster: Cluster) -> None:
    for number in range(50):
        answer = cluster.nodes[1 + number % 3].put(f"/v1/kv/kept-{number}", content=b"%d" % number)
        assert answer.status_code == 200
    for node in cluster.nodes:
        cluster.runtime.kill(node_name(node))
    with ThreadPoolExecutor() as pool:
        list(pool.map(cluster.runtime.restart, map(node_name, cluster.nodes)))
    found = cluster.nodes[2].get("/v1/range", params={"key": "kept-", "prefix": True}).json()
    values = {item["key"]: item["value"] for item in found["items"]}
    assert values == {f"kept-{number}": str(number) for number in range(50)}
    settle(cluster)


def test_a_wiped_node_under_its_old_id_is_not_listened_to(tmp_path: Path) -> None:
    """It has forgotten its votes: two of three go on without it."""
    with cluster_in(tmp_path) as cluster:
        wait_for(lambda: bool(cluster.is_settled()), "three equal nodes")
        cluster.runtime.kill(node_name(3))
        folder = cluster.runtime.root / "nodes" / "3"
        shutil.rmtree(folder)
        initialise(PosixDisk(folder), Identity("scalelab", 3, "0" * 32))
        cluster.runtime.restart(node_name(3))
        log = cluster.runtime.log_path(node_name(1))
        wait_for(lambda: "wiped_node" in log.read_text(), "node 1 to turn it away")
        assert cluster.nodes[1].put("/v1/kv/k", content=b"v").status_code == 200
        assert [group["leader"] for group in cluster.groups(3)] == [0] * GROUPS
