"""Claims about the HTTP API, held against three real nodes that nobody breaks."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.integration.month5.node.cluster import Cluster, wait_for

pytestmark = pytest.mark.timeout(240)


def put(cluster: Cluster, key: str, value: bytes, node: int = 1, **params: Any) -> httpx.Response:
    return cluster.nodes[node].put(f"/v1/kv/{key}", content=value, params=params)


def get(cluster: Cluster, key: str, node: int = 1, **params: Any) -> httpx.Response:
    return cluster.nodes[node].get(f"/v1/kv/{key}", params=params)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_what_was_put_through_one_node_is_read_through_every_other(cluster: Cluster) -> None:
    for node in (1, 2, 3):
        assert put(cluster, f"any-{node}", b"%d" % node, node).status_code == 200
        read = [get(cluster, f"any-{node}", other).content for other in (1, 2, 3)]
        assert read == [b"%d" % node] * 3


def test_a_key_and_a_value_may_be_any_bytes(cluster: Cluster) -> None:
    value = bytes(range(256))
    key = "bin%00%ff%2Fslash"
    assert put(cluster, key, value).status_code == 200
    assert get(cluster, key, 2).content == value
    encoded = base64.b64encode(b"bin\x00\xff/slash").decode()
    found = cluster.nodes[3].get("/v1/range", params={"key": encoded, "encoding": "base64"}).json()
    assert (found["count"], found["items"][0]["encoding"]) == (1, "base64")


def test_a_deleted_key_is_not_there_but_its_past_is(cluster: Cluster) -> None:
    revision = put(cluster, "past", b"then").json()["revision"]
    deleted = cluster.nodes[2].delete("/v1/kv/past").json()
    assert deleted["deleted"] == 1
    assert code(get(cluster, "past", 3)) == (404, "key_not_found")
    assert get(cluster, "past", 3, revision=revision).content == b"then"


def test_a_range_over_all_groups_is_in_order_and_bounded(cluster: Cluster) -> None:
    for number in range(20):
        put(cluster, f"span/{number:02}", b"")
    params = {"key": "span/", "prefix": True, "limit": 15}
    found = cluster.nodes[2].get("/v1/range", params=params).json()
    assert [item["key"] for item in found["items"]] == [f"span/{n:02}" for n in range(15)]
    assert (found["count"], found["more"]) == (20, True)


def test_of_two_swaps_from_the_same_value_one_succeeds(cluster: Cluster) -> None:
    put(cluster, "swap", b"0")
    done = [
        cluster.nodes[node]
        .post(
            "/v1/transaction",
            json={
                "compares": [{"key": "swap", "target": "value", "value": "0"}],
                "then": [{"op": "put", "key": "swap", "value": str(node)}],
            },
        )
        .json()["succeeded"]
        for node in (2, 3)
    ]
    assert done == [True, False]


def test_a_transaction_over_two_groups_is_refused_and_over_one_tag_is_not(
    cluster: Cluster,
) -> None:
    def puts(*keys: str) -> httpx.Response:
        document = {"then": [{"op": "put", "key": key} for key in keys]}
        return cluster.nodes[1].post("/v1/transaction", json=document)

    assert code(puts("a", "b", "c", "d")) == (422, "cross_group")
    assert puts("{cart-7}/a", "{cart-7}/b").status_code == 200


def test_a_repeated_command_of_a_session_is_carried_out_once(cluster: Cluster) -> None:
    """The retry goes to another node than the first attempt."""
    request = {"key": "once", "ttl_ms": 600_000}
    session = cluster.nodes[1].post("/v1/sessions", json=request).json()["session"]
    headers = {"Kv-Session": str(session), "Kv-Sequence": "1"}
    answers = [
        cluster.nodes[node].put("/v1/kv/once", content=b"v", headers=headers) for node in (1, 2, 3)
    ]
    assert len({answer.text for answer in answers}) == 1
    assert get(cluster, "once").headers["kv-version"] == "1"


def test_a_lease_that_nobody_keeps_takes_its_keys_away(cluster: Cluster) -> None:
    granted = cluster.nodes[1].post("/v1/leases", json={"key": "leased", "ttl_ms": 300}).json()
    put(cluster, "leased", b"v", lease=granted["lease"])
    wait_for(lambda: get(cluster, "leased", 2).status_code == 404, "the end of a lease")
    kept = cluster.nodes[2].post(f"/v1/leases/{granted['lease']}/keep-alive")
    assert code(kept) == (404, "lease_not_found")


def test_a_revoked_lease_takes_its_keys_away_at_once(cluster: Cluster) -> None:
    granted = cluster.nodes[1].post("/v1/leases", json={"key": "revoked", "ttl_ms": 10**6}).json()
    assert put(cluster, "revoked", b"v", lease=granted["lease"]).status_code == 200
    assert cluster.nodes[3].delete(f"/v1/leases/{granted['lease']}").status_code == 200
    assert get(cluster, "revoked", 2).status_code == 404


def test_a_watcher_gets_the_changes_from_its_revision_on(cluster: Cluster) -> None:
    first = put(cluster, "{w}/a", b"1").json()["revision"]
    put(cluster, "{w}/b", b"2")
    cluster.nodes[1].delete("/v1/kv/%7Bw%7D/a")
    params = {"key": "{w}/", "prefix": True, "revision": first}
    seen: list[tuple[str, str]] = []
    with cluster.nodes[3].stream("GET", "/v1/watch", params=params) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                seen.append((event["kind"], event["item"]["key"]))
            if len(seen) == 3:
                break
    assert seen == [("put", "{w}/a"), ("put", "{w}/b"), ("delete", "{w}/a")]


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("PUT", "/v1/kv/", {"content": b""}, (422, "empty_key")),
        ("PUT", "/v1/kv/" + "k" * 5000, {"content": b""}, (413, "key_too_large")),
        ("PUT", "/v1/kv/k", {"content": bytes(2 << 20)}, (413, "value_too_large")),
        ("PUT", "/v1/kv/k", {"content": b"", "params": {"lease": 7}}, (422, "wrong_group")),
        ("GET", "/v1/kv/k", {"params": {"revision": 10**9}}, (422, "revision_in_future")),
        ("GET", "/v1/kv/k", {"params": {"revision": -1}}, (422, "invalid_input")),
        ("GET", "/v1/kv/k", {"params": {"consistency": "strong"}}, (422, "invalid_input")),
        ("GET", "/v1/watch", {"params": {"key": "a", "prefix": True}}, (422, "cross_group")),
        ("GET", "/v1/range", {"params": {"end": "b", "prefix": True}}, (422, "invalid_input")),
        (
            "GET",
            "/v1/range",
            {"params": {"key": "%", "encoding": "base64"}},
            (422, "invalid_input"),
        ),
        ("POST", "/v1/leases", {"json": {"key": "k", "ttl_ms": 0}}, (422, "invalid_input")),
        ("POST", "/v1/transaction", {"json": {}}, (422, "cross_group")),
        ("DELETE", "/v1/leases/999999", {}, (404, "lease_not_found")),
    ],
)
def test_bad_input_gets_a_typed_error(
    cluster: Cluster,
    method: str,
    path: str,
    options: dict[str, Any],
    expected: tuple[int, str],
) -> None:
    assert code(cluster.nodes[2].request(method, path, **options)) == expected


def test_all_nodes_come_to_hold_the_same(cluster: Cluster) -> None:
    put(cluster, "same", b"v")
    wait_for(cluster.is_settled, "three equal nodes")


def test_status_and_metrics_tell_of_every_group(cluster: Cluster) -> None:
    status = cluster.nodes[1].get("/status").json()
    assert [group["group"] for group in status["groups"]] == list(range(16))
    assert 'kv_term{group="15"}' in cluster.nodes[1].get("/metrics").text
    assert cluster.nodes[1].get("/healthz").json() == {"status": "ok"}
