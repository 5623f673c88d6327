"""The month's stack as a person starts it: shards, replicas and the order book in front of them."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psycopg
import pytest

from month2_databases.orderbook.routes import TOKEN_HEADER
from month2_databases.stack import Stack
from month2_databases.topology import REPLICAS, SHARDS
from scalelab.hashing import slot_for_key

DEADLINE_S = 30.0
ORDERS = "/api/v1/orders"


def place(client: httpx.Client, user: str, key: str, cents: int = 500) -> httpx.Response:
    """One order of a user."""
    wanted = {"user_id": user, "amount_cents": cents}
    return client.post(ORDERS, json=wanted, headers={"Idempotency-Key": key})


def user_of(shard: str, stem: str) -> str:
    """A user whose slot is on a shard; none whose slot another test moves away."""
    half = 128 * SHARDS.index(shard)
    names = (f"{stem}-{number}" for number in range(1000))
    return next(name for name in names if half + 64 <= slot_for_key(name) < half + 128)


def until_a_replica_answers(client: httpx.Client, user: str) -> None:
    """The router reads from a replica once it has heard how far that one is."""
    give_up_s = time.monotonic() + DEADLINE_S
    while client.get(f"/api/v1/users/{user}/orders").headers["x-read-role"] != "replica":
        assert time.monotonic() < give_up_s, "no replica was ever read"
        time.sleep(0.05)


def test_each_user_lives_on_one_shard_and_an_id_finds_its_order(client: httpx.Client) -> None:
    """By id alone, from the shard that the write named."""
    for shard in SHARDS:
        placed = place(client, user_of(shard, "lives"), "first")
        assert (placed.status_code, placed.headers["x-shard"]) == (201, shard), placed.text
        found = client.get(
            placed.headers["location"], headers={TOKEN_HEADER: placed.headers[TOKEN_HEADER]}
        )
        assert (found.status_code, found.headers["x-shard"]) == (200, shard)
        assert found.json()["amount_cents"] == 500


def test_whoever_brings_the_token_reads_the_own_write(stack: Stack, client: httpx.Client) -> None:
    """Also while every replica stands still; a stranger then reads the past from a replica."""
    shard = SHARDS[0]
    user = user_of(shard, "own")
    until_a_replica_answers(client, user)
    paused = [stack.servers[name].superuser_dsn() for name in REPLICAS[shard]]
    for dsn in paused:
        _run(dsn, "SELECT pg_wal_replay_pause()")
    try:
        token = place(client, user, "k").headers[TOKEN_HEADER]
        mine = client.get(f"/api/v1/users/{user}/orders", headers={TOKEN_HEADER: token})
        stranger = client.get(f"/api/v1/users/{user}/orders")
    finally:
        for dsn in paused:
            _run(dsn, "SELECT pg_wal_replay_resume()")
    assert len(mine.json()["orders"]) == 1
    assert (mine.headers["x-read-role"], mine.headers["x-read-reason"]) == ("primary", "behind")
    assert stranger.headers["x-read-role"] == "replica"
    assert stranger.json()["orders"] == []


def test_the_same_key_stores_one_order_and_another_body_is_refused(client: httpx.Client) -> None:
    """A retry is answered as the first time, byte for byte."""
    user = user_of(SHARDS[1], "twice")
    first, again = place(client, user, "k"), place(client, user, "k")
    assert (first.content, again.headers["idempotency-replayed"]) == (again.content, "true")
    other = place(client, user, "k", cents=501)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    token = {TOKEN_HEADER: first.headers[TOKEN_HEADER]}
    assert len(client.get(f"/api/v1/users/{user}/orders", headers=token).json()["orders"]) == 1


def test_the_newest_orders_come_from_all_shards_in_one_order(client: httpx.Client) -> None:
    """Placed by turns on both shards, listed newest first."""
    users = [user_of(shard, "newest") for shard in SHARDS]
    placed = [place(client, users[n % 2], f"n{n}").json()["order_id"] for n in range(6)]
    listed = [one["order_id"] for one in client.get(f"{ORDERS}?limit=6").json()["orders"]]
    assert listed == sorted(listed, reverse=True)
    assert set(placed) == set(listed)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"user_id": "", "amount_cents": 1}, "user_id"),
        ({"user_id": "a b", "amount_cents": 1}, "user_id"),
        ({"user_id": "x" * 65, "amount_cents": 1}, "user_id"),
        ({"user_id": "ann", "amount_cents": 0}, "amount_cents"),
        ({"user_id": "ann", "amount_cents": 10**9}, "amount_cents"),
        ({"user_id": "ann", "amount_cents": "5"}, "amount_cents"),
        ({"user_id": None, "amount_cents": 5}, "user_id"),
    ],
)
def test_what_cannot_be_an_order_is_refused(
    client: httpx.Client, body: dict[str, Any], field: str
) -> None:
    """With the field's name, and nothing is stored."""
    before = client.get("/api/v1/shards").json()["orders"]
    answer = client.post(ORDERS, json=body, headers={"Idempotency-Key": "bad"})
    assert answer.status_code == 422
    assert field in str(answer.json()["errors"])
    assert client.get("/api/v1/shards").json()["orders"] == before


def test_an_id_that_was_made_elsewhere_is_refused(client: httpx.Client) -> None:
    """It carries no slot, so there is no shard to ask."""
    answer = client.get(f"{ORDERS}/8c1c6a6c-6f3f-4d0e-9d3e-2f7a0c1b2a3d")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


def _run(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())
