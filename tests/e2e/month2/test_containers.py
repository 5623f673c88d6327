"""The databases month's container file, run for real: shards, replicas, the order book.

Built and started in the container bed, from stand-ins that carry the official names; what a reader
runs with `docker compose up` in the month's folder is the same file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from month2_databases.containers import SERVERS
from month2_databases.orderbook.routes import TOKEN_HEADER
from month2_databases.topology import SHARDS
from scalelab.hashing import slot_for_key
from scalelab.lab.containers import ContainerBed, Project
from tests.fixtures.beds import check_states, running

FILE = Path(__file__).resolve().parents[3] / "month2_databases" / "docker-compose.yml"
PROJECT = "scalelab-month2"
UP_WITHIN_S = 480.0
PATIENCE_S = 60.0
JOBS = ("secrets", "prepare")

pytestmark = [pytest.mark.bed, pytest.mark.timeout(2700)]


@pytest.fixture(scope="module")
def stack(container_bed: ContainerBed, request: pytest.FixtureRequest) -> Iterator[Project]:
    """The month's stack, healthy; taken down whole afterwards."""
    ports = {"ORDERBOOK_PORT": "orderbook"}
    with running(
        container_bed, request.session, FILE, name=PROJECT, ports=ports, within_s=UP_WITHIN_S
    ) as project:
        yield project


@pytest.fixture
def book(stack: Project) -> Iterator[httpx.Client]:
    """A client of the order book."""
    url = f"http://{stack.address('orderbook', 8201)}/api/v1"
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        yield client


def place(book: httpx.Client, user: str, key: str) -> httpx.Response:
    """One order."""
    wanted = {"user_id": user, "amount_cents": 700}
    return book.post("/orders", json=wanted, headers={"Idempotency-Key": key})


def user_of(shard: str) -> str:
    """A user who lives there."""
    half = 128 * SHARDS.index(shard)
    names = (f"user-{number}" for number in range(1000))
    return next(name for name in names if half <= slot_for_key(name) < half + 128)


def test_every_container_is_healthy_and_every_job_ended_well(stack: Project) -> None:
    """All servers of the native stack are there; what stands behind a profile is not."""
    check_states(stack, {*SERVERS, "orderbook"}, jobs=JOBS)


def test_an_order_lands_on_its_shard_and_its_owner_reads_it(book: httpx.Client) -> None:
    """On each shard, with the token of the write."""
    for shard in SHARDS:
        placed = place(book, user_of(shard), "lands")
        assert (placed.status_code, placed.headers["x-shard"]) == (201, shard), placed.text
        token = {TOKEN_HEADER: placed.headers[TOKEN_HEADER]}
        mine = book.get(f"/users/{user_of(shard)}/orders", headers=token)
        assert placed.json()["order_id"] in mine.text


def test_replicas_answer_reads(book: httpx.Client) -> None:
    """Once the router has heard how far they are."""
    user, give_up_s = user_of(SHARDS[0]), time.monotonic() + PATIENCE_S
    while book.get(f"/users/{user}/orders").headers["x-read-role"] != "replica":
        assert time.monotonic() < give_up_s, "no replica was ever read"
        time.sleep(0.2)


def test_a_killed_shard_takes_only_its_own_users_along(stack: Project, book: httpx.Client) -> None:
    """Its users are told when to come back, the other's are served; afterwards all is there."""
    there, gone = user_of(SHARDS[0]), user_of(SHARDS[1])
    before = place(book, gone, "before")
    assert before.status_code == 201
    stack.compose("kill", "--signal", "KILL", SHARDS[1])
    try:
        refused = place(book, gone, "while")
        served = place(book, there, "while")
    finally:
        stack.compose("up", "--detach", "--wait", "--no-deps", "--no-build", SHARDS[1])
    assert refused.status_code == 503, refused.text
    assert int(refused.headers["retry-after"]) >= 1
    assert served.status_code == 201
    give_up_s = time.monotonic() + PATIENCE_S
    while (again := place(book, gone, "while")).status_code != 201:
        assert time.monotonic() < give_up_s, again.text
        time.sleep(0.5)
    token = {TOKEN_HEADER: again.headers[TOKEN_HEADER]}
    listed = book.get(f"/users/{gone}/orders", headers=token).text
    assert before.json()["order_id"] in listed
    assert again.json()["order_id"] in listed
