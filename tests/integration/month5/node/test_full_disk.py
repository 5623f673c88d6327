"""Claims about a node whose disk is full, while the two others have room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from month5_kvstore.node import group_of
from month5_kvstore.stack import node_name
from tests.fixtures.small_disks import fill_up, small_disks
from tests.integration.month5.node.cluster import Cluster, cluster_in, wait_for

pytestmark = pytest.mark.timeout(300)

SMALL = 3
VALUE = bytes(100_000)
SEGMENTS = {"segment_bytes": str(1 << 20)}
REFUSALS = {"disk_full", "outcome_unknown", "no_leader", "not_leader"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    with small_disks(tmp_path) as mount:
        yield mount


def led_by(cluster: Cluster, node: int) -> str:
    """A key whose group this node leads; leadership moves until there is one."""
    found: list[str] = []
    others = [other for other in cluster.nodes if other != node]

    def leads() -> bool:
        view = cluster.groups(node)
        groups = {one["group"] for one in view if one["role"] == "leader"}
        keys = (f"led-{number}" for number in range(200))
        found.extend(key for key in keys if group_of(key.encode()) in groups)
        if view and not groups:
            cluster.runtime.restart(node_name(others[0]))
            others.reverse()
        return bool(found)

    wait_for(leads, f"a group that node {node} leads")
    return found[0]


def put(cluster: Cluster, node: int, key: str, value: bytes) -> httpx.Response:
    return cluster.nodes[node].put(f"/v1/kv/{key}", content=value, params={"deadline_s": "3"})


def on_small_disk(root: Path, node: int, disk: Path) -> None:
    """Have the log of this node lie there."""
    (root / "nodes").mkdir(parents=True)
    (root / "nodes" / str(node)).symlink_to(disk)


def test_a_leader_whose_disk_is_full_is_followed_by_one_with_room(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    """It promises nothing and falls silent; no write that was answered is lost on any node."""
    disk = small_disk(24)
    on_small_disk(tmp_path / "kv", SMALL, disk)
    with cluster_in(tmp_path / "kv", settings=SEGMENTS) as cluster:
        wait_for(cluster.is_settled, "three equal nodes")
        key = led_by(cluster, SMALL)
        pids = {one.name: one.pid for one in cluster.runtime.status()}
        ballast = fill_up(disk, leave_bytes=300_000)
        kept: dict[str, bytes] = {}
        codes: set[str] = set()

        def is_full() -> bool:
            name = f"{{{key}}}-{len(kept)}"
            answer = put(cluster, 2, name, VALUE)
            if answer.is_success:
                kept[name] = VALUE
            else:
                codes.add(answer.json()["code"])
            return any(one["disk_full"] for one in cluster.groups(SMALL))

        wait_for(is_full, "a full disk")
        assert codes <= REFUSALS
        cluster.leader(key, among=(1, 2))
        wait_for(lambda: put(cluster, 2, key, b"after").is_success, "a leader with room")
        ballast.unlink()
        wait_for(cluster.is_settled, "three equal nodes")
        for name, value in (*kept.items(), (key, b"after")):
            read = [node.get(f"/v1/kv/{name}").content for node in cluster.nodes.values()]
            assert read == [value] * len(cluster.nodes)
        assert {one.name: one.pid for one in cluster.runtime.status()} == pids


def test_a_full_disk_is_called_so_and_room_is_all_that_it_needs(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    """A cluster of one has nobody else to lead; what it answered is there after a kill."""
    disk = small_disk(24)
    on_small_disk(tmp_path / "kv", 1, disk)
    with cluster_in(tmp_path / "kv", nodes=1, settings=SEGMENTS) as cluster:
        wait_for(cluster.is_settled, "a leader of every group")
        ballast = fill_up(disk, leave_bytes=300_000)
        kept: list[str] = []
        codes: list[str] = []

        def is_refused() -> bool:
            name = f"{{full}}-{len(kept)}"
            answer = put(cluster, 1, name, VALUE)
            if answer.is_success:
                kept.append(name)
            else:
                codes.append(answer.json()["code"])
            return codes[-1:] == ["disk_full"]

        wait_for(is_refused, "a refusal")
        assert kept
        # What found no room first is in the memory of the node: nobody can tell.
        assert set(codes) <= REFUSALS
        # Nothing is promised meanwhile, nor a read confirmed; what is here is told.
        here = cluster.nodes[1].get(f"/v1/kv/{kept[-1]}", params={"consistency": "eventual"})
        assert here.content == VALUE
        ballast.unlink()
        wait_for(lambda: put(cluster, 1, "{full}", b"after").is_success, "room again")
        cluster.runtime.kill(node_name(1))
        cluster.runtime.restart(node_name(1))
        wait_for(cluster.is_settled, "a leader of every group")
        found = [cluster.nodes[1].get(f"/v1/kv/{name}").content for name in kept]
        assert found == [VALUE] * len(kept)
        assert cluster.nodes[1].get("/v1/kv/{full}").content == b"after"
