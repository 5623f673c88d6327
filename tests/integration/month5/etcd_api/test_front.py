"""The one port that both languages share, and what strangers may send to it."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.month5.etcd_api.api import Api, b64
from tests.integration.month5.node.cluster import Cluster

pytestmark = pytest.mark.timeout(240)


def connected(api: Api) -> socket.socket:
    parts = urlsplit(api.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=60.0)


def test_what_is_neither_language_is_a_bad_request(ours: list[Api]) -> None:
    with connected(ours[0]) as stranger:
        stranger.sendall(b"\x16\x03\x01 hello?\r\n\r\n")
        assert stranger.recv(64).startswith(b"HTTP/1.1 400")


def test_a_caller_that_says_half_a_word_keeps_nobody_waiting(ours: list[Api]) -> None:
    with connected(ours[0]) as undecided, connected(ours[0]) as silent:
        undecided.sendall(b"PRI * HT")
        assert ours[0].put(b"front", b"v")["header"]["revision"]
        silent.close()


def test_a_request_in_pieces_is_one_request(ours: list[Api]) -> None:
    body = json.dumps({"key": b64(b"front/pieces")}).encode()
    head = f"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with connected(ours[1]) as slow:
        for piece in (b"P", head.encode()[1:5], head.encode()[5:], body[:3], body[3:]):
            slow.sendall(piece)
        assert slow.recv(64).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body", [b'{"compare": ' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"key": "\xff"}']
)
def test_a_body_that_is_no_json_is_refused_and_the_next_one_is_not(
    ours: list[Api], body: bytes
) -> None:
    with httpx.Client(base_url=ours[2].url, timeout=60.0, trust_env=False) as client:
        assert client.post("/v3/kv/txn", content=body).status_code == 400
    assert ours[2].range(b"front")["header"]["revision"]


def test_the_nodes_own_port_has_the_gateway_too(ours: list[Api], cluster: Cluster) -> None:
    ours[0].put(b"front/own", b"v")
    answer = httpx.post(
        f"{cluster.stack.urls[2]}/v3/kv/range",
        content=json.dumps({"key": b64(b"front/own")}),
        timeout=60.0,
    )
    assert answer.json()["kvs"][0]["value"] == b64(b"v")


def test_version_and_health_are_told_as_etcd_tells_them(ours: list[Api], theirs: Api) -> None:
    assert set(ours[0].get("/version").json()) == set(theirs.get("/version").json())
    assert ours[0].get("/health").json() == theirs.get("/health").json() == {"health": "true"}
