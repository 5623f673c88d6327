"""The gateway month's container file, run for real: edge, gateway, three catalogues, stores.

Built and started in the container bed, from stand-ins that carry the official names; what a reader
runs with `docker compose up` in the month's folder is the same file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from month1_caching_gateway.topology import (
    KEEPER_SCOPE,
    READER_SCOPE,
    REPLICAS,
    TOKEN_AUDIENCE,
    TOKEN_ISSUER,
)
from scalelab.lab.containers import ContainerBed, Project
from tests.fixtures.beds import check_states, minted, running

FILE = Path(__file__).resolve().parents[3] / "month1_caching_gateway" / "docker-compose.yml"
PROJECT = "scalelab-month1"
UP_WITHIN_S = 480.0
PATIENCE_S = 60.0
MERGE = {"Content-Type": "application/merge-patch+json"}
JOBS = ("secrets", "prepare")

pytestmark = [pytest.mark.bed, pytest.mark.timeout(2700)]


@pytest.fixture(scope="module")
def stack(container_bed: ContainerBed, request: pytest.FixtureRequest) -> Iterator[Project]:
    """The month's stack, healthy; taken down whole afterwards."""
    ports = {"EDGE_PORT": "edge", "DOOR_PORT": "gateway"}
    with running(
        container_bed, request.session, FILE, name=PROJECT, ports=ports, within_s=UP_WITHIN_S
    ) as project:
        yield project


@pytest.fixture(scope="module")
def edge(stack: Project) -> Iterator[httpx.Client]:
    """A client of the edge, which passes on to the gateway."""
    with httpx.Client(
        base_url=f"http://{stack.address('edge', 8100)}", timeout=PATIENCE_S
    ) as client:
        yield client


def headers_of(stack: Project, subject: str) -> dict[str, str]:
    """Headers of somebody who may write."""
    token = minted(
        stack,
        issuer=TOKEN_ISSUER,
        audience=TOKEN_AUDIENCE,
        subject=subject,
        scopes=[READER_SCOPE, KEEPER_SCOPE],
    )
    return {"Authorization": f"Bearer {token}", **MERGE}


@pytest.fixture(scope="module")
def keeper(stack: Project, edge: httpx.Client) -> dict[str, str]:
    """Headers of somebody who may write, with a token that the issuer's key has signed.

    The doors fetch the issuer's keys when they first need them; on a machine that is still busy
    with starting that may take more than one try (503 until then).
    """
    headers = headers_of(stack, "keeper")
    give_up_s = time.monotonic() + PATIENCE_S
    while edge.patch("/api/v1/products/p-0004", headers=headers, content=b"{}").status_code == 503:
        assert time.monotonic() < give_up_s, "the issuer's keys are not to be had"
        time.sleep(1.0)
    return headers


def test_every_container_is_healthy_and_every_job_ended_well(stack: Project) -> None:
    """All processes of the native stack are there."""
    usual = {*REPLICAS, "issuer", "gateway", "edge", "postgres", "redis", "memcached"}
    check_states(stack, usual, jobs=JOBS)


def test_a_product_is_read_through_edge_and_gateway(stack: Project, edge: httpx.Client) -> None:
    """The same answer at both doors."""
    page = edge.get("/api/v1/products", params={"limit": 3})
    assert page.status_code == 200, page.text
    product = page.json()["products"][0]["product_id"]
    with httpx.Client(base_url=f"http://{stack.address('gateway', 8101)}") as gateway:
        behind = gateway.get(f"/api/v1/products/{product}", timeout=PATIENCE_S)
    front = edge.get(f"/api/v1/products/{product}")
    assert front.status_code == behind.status_code == 200
    assert front.json() == behind.json()


def test_an_unchanged_product_is_not_sent_again(edge: httpx.Client) -> None:
    """Its entity tag comes with the answer, through both doors; asked with it: 304, no body."""
    first = edge.get("/api/v1/products/p-0001")
    assert "max-age" in first.headers["Cache-Control"]
    again = edge.get("/api/v1/products/p-0001", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_read_fills_the_shared_cache_and_a_write_empties_it(
    stack: Project, edge: httpx.Client, keeper: dict[str, str]
) -> None:
    """Redis has the product after a read; after a change nobody is served the old one."""
    before = edge.get("/api/v1/products/p-0002")
    keys = stack.compose("exec", "-T", "redis", "redis-cli", "--raw", "keys", "*p-0002*")
    assert keys.strip(), "the read left nothing in the cache"
    changed = edge.patch(
        "/api/v1/products/p-0002",
        headers={**keeper, "If-Match": before.headers["ETag"]},
        content=b'{"name": "changed in a container"}',
    )
    assert changed.status_code == 200, changed.text
    for _ in range(2 * len(REPLICAS)):
        assert edge.get("/api/v1/products/p-0002").json()["name"] == "changed in a container"


def test_a_keeper_who_asks_too_often_is_told_when_to_come_back(
    stack: Project, edge: httpx.Client, keeper: dict[str, str]
) -> None:
    """429 with Retry-After once the bucket of 20 is empty; the bucket stands in Redis.

    Somebody else's bucket than the other tests', which may come after this one.
    """
    assert keeper  # the doors have the issuer's keys
    hasty = headers_of(stack, "hasty keeper")
    answers: list[httpx.Response] = []
    while len(answers) < 200 and (not answers or answers[-1].status_code != 429):
        answers.append(edge.patch("/api/v1/products/p-0003", headers=hasty, content=b"{}"))
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) >= 1
    # Before that: a change without If-Match is refused and changes nothing.
    assert {answer.status_code for answer in answers[:-1]} == {428}


def test_a_stranger_may_not_write(edge: httpx.Client) -> None:
    """No token, no write, whatever the door."""
    answer = edge.patch("/api/v1/products/p-0001", headers=MERGE, content=b'{"name": "x"}')
    assert answer.status_code == 401


def test_a_catalogue_may_go_and_nobody_notices(stack: Project, edge: httpx.Client) -> None:
    """kill -9 of one of three between two calls: every read of the next fifty is answered."""
    stack.compose("kill", "--signal", "KILL", "catalog-2")
    try:
        statuses = [edge.get("/api/v1/products/p-0001").status_code for _ in range(50)]
    finally:
        stack.compose("up", "--detach", "--wait", "--no-deps", "--no-build", "catalog-2")
    assert statuses == [200] * 50
