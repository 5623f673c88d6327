"""The messaging month's container file, run for real: orders, worker, partners, Kafka.

Built and started in the container bed, from stand-ins that carry the official names; what a reader
runs with `docker compose up` in the month's folder is the same file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from month3_messaging.orderload import follow, place_orders
from month3_messaging.topology import PORTS, TOKEN_AUDIENCE, TOKEN_ISSUER
from scalelab.clients.http import HttpClient
from scalelab.lab.containers import ContainerBed, Project
from tests.e2e.month3.watching import watched
from tests.fixtures.beds import check_states, minted, running

FILE = Path(__file__).resolve().parents[3] / "month3_messaging" / "docker-compose.yml"
PROJECT = "scalelab-month3"
UP_WITHIN_S = 480.0
ENDS_WITHIN_S = 240.0
NUMBER = 20
JOBS = ("secrets", "prepare-orders", "prepare-partners", "prepare-desk")
BOOKS = """
import urllib.request as r
print(r.urlopen("http://127.0.0.1:8303/internal/v1/books", timeout=30).read().decode())
"""

pytestmark = [pytest.mark.bed, pytest.mark.timeout(2700)]


@pytest.fixture(scope="module")
def stack(container_bed: ContainerBed, request: pytest.FixtureRequest) -> Iterator[Project]:
    """The month's stack, healthy; taken down whole afterwards."""
    ports = {"ORDERS_PORT": "orders", "LIVE_PORT": "orders-live"}
    with running(
        container_bed, request.session, FILE, name=PROJECT, ports=ports, within_s=UP_WITHIN_S
    ) as project:
        yield project


def token_of(stack: Project, subject: str) -> str:
    """A token that the door believes."""
    return minted(
        stack, issuer=TOKEN_ISSUER, audience=TOKEN_AUDIENCE, subject=subject, scopes=["shop"]
    )


def books(stack: Project) -> dict[str, int]:
    """What the partners kept; their port is not published."""
    told = stack.compose("exec", "-T", "partners", "python", "-", stdin=BOOKS)
    return json.loads(told)


def test_every_container_is_healthy_and_every_job_ended_well(stack: Project) -> None:
    """All parts of the native stack are there."""
    check_states(stack, PORTS, jobs=JOBS)


async def test_an_order_is_watched_to_its_end_over_the_websocket(stack: Project) -> None:
    """The second published port; versions ascend, of two within a tick only the later is told."""
    bearer = token_of(stack, "watching")
    async with HttpClient(f"http://{stack.address('orders', 8301)}", timeout_s=60.0) as http:
        placed = await place_orders(http, bearer, 1, products=20, random=Random(5))
    (order_id,) = placed.accepted
    seen = await watched(stack.address("orders", 8310), bearer, order_id, within_s=ENDS_WITHIN_S)
    versions = [version for version, _ in seen]
    assert versions == sorted(set(versions))
    assert seen[-1][1] in {"confirmed", "payment_failed"}


async def test_orders_end_once_though_broker_and_worker_are_killed(stack: Project) -> None:
    """Half are placed while Kafka and the worker are dead; all end, and the books balance."""
    bearer = token_of(stack, "bed")
    before = books(stack)
    url = f"http://{stack.address('orders', 8301)}"
    async with HttpClient(url, timeout_s=60.0) as http:
        first = await place_orders(http, bearer, NUMBER // 2, products=20, random=Random(3))
        stack.compose("kill", "--signal", "KILL", "kafka", "orders-worker")
        try:
            second = await place_orders(http, bearer, NUMBER // 2, products=20, random=Random(4))
        finally:
            stack.compose("up", "--detach", "--wait", "--no-deps", "--no-build", "kafka")
            stack.compose("up", "--detach", "--wait", "--no-deps", "--no-build", "orders-worker")
        for placed in (first, second):
            assert len(placed.accepted) == NUMBER // 2, placed.refused
            await follow(http, bearer, placed, within_s=ENDS_WITHIN_S)
            assert not placed.still_open
    grown = {name: after - before[name] for name, after in books(stack).items()}
    ends = Counter([*first.ends.values(), *second.ends.values()])
    assert grown["kept_minor"] == first.confirmed_minor + second.confirmed_minor
    assert grown["taken"] == grown["promised"] == ends["confirmed"]
