"""The shop's container files, run for real: one order through the front door, and nothing left.

Built and started in the container bed, from stand-ins that carry the official names; what a reader
runs with `docker compose up` is the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from month6_capstone.topology import SERVICES
from scalelab.lab.containers import ContainerBed, Project
from scalelab.lab.servers import ServerFailed
from tests.e2e.customer import Customer, wait_until
from tests.fixtures.beds import check_states, running

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "month6_capstone" / "docker-compose.yml"
PROJECT = "scalelab-shop"
UP_WITHIN_S = 480.0
PATIENCE_S = 240.0
STORES = (
    *("shop-db", "shard-0", "shard-1", "shard-0-replica", "shard-1-replica"),
    *("redis", "kafka", "prometheus"),
)

pytestmark = [pytest.mark.bed, pytest.mark.timeout(2700)]


@dataclass(frozen=True, slots=True)
class Door:
    """Where the shop in containers is, for a `Customer`."""

    url: str


@pytest.fixture(scope="module")
def shop(container_bed: ContainerBed, request: pytest.FixtureRequest) -> Iterator[Project]:
    """The shop, healthy; taken down whole afterwards."""
    ports = {"SHOP_PORT": "front door"}
    with running(
        container_bed, request.session, FILE, name=PROJECT, ports=ports, within_s=UP_WITHIN_S
    ) as project:
        yield project


@pytest.fixture(scope="module")
def door(shop: Project) -> Door:
    """The published port, as Compose tells it."""
    return Door(f"http://{shop.address('gateway', 8080)}")


@pytest.fixture(scope="module")
def customer(door: Door) -> Customer:
    """A seeded customer, signed in through the front door."""
    return Customer.signed_in(door, 1)


def verdict(shop: Project) -> dict[str, Any]:
    """What the shop's own verifier says, from inside; {} while a store cannot be read."""
    try:
        return json.loads(shop.compose("run", "--rm", "--no-deps", "verify"))
    except ServerFailed:
        return {}


def confirmed(customer: Customer, order_id: str) -> None:
    """Wait until the order is; with the patience of a machine that just started 18 containers."""
    wait_until(
        f"{order_id} is confirmed",
        lambda: customer.status(order_id) == "confirmed",
        patience_s=PATIENCE_S,
    )


def test_every_container_is_healthy_and_every_job_ended_well(shop: Project) -> None:
    """All processes of the native stack are there."""
    check_states(shop, {*SERVICES, "gateway", *STORES}, jobs=("secrets", "prepare"))


def test_an_order_through_the_front_door_is_confirmed(customer: Customer) -> None:
    """Accepted with 202, then paid, reserved and confirmed by five processes and two stores."""
    placed = customer.place()
    assert placed.status_code == 202, placed.text
    confirmed(customer, placed.json()["order_id"])


def test_the_books_balance(shop: Project, customer: Customer) -> None:
    """Clients, orders, ledger, provider, stock and events tell one story; it is about orders."""
    order_id = customer.place().json()["order_id"]
    confirmed(customer, order_id)
    last: dict[str, Any] = {}

    def balanced() -> bool:
        last.update(verdict(shop))
        return last.get("balanced") is True

    wait_until(f"the books balance: {last}", balanced, patience_s=PATIENCE_S)
    assert last["checked"]["captured_minus_refunded_is_confirmed"] > 0


def test_a_container_of_ours_is_no_root_and_cannot_change_its_image(shop: Project) -> None:
    """An ordinary user on a read-only file system."""
    for name in (*SERVICES, "gateway"):
        assert shop.compose("exec", "-T", name, "id", "-u").strip() == "10001", name
    with pytest.raises(ServerFailed, match="Read-only file system"):
        shop.compose("exec", "-T", "gateway", "touch", "/var/tmp/x")


def test_a_new_kafka_container_finds_its_topics(shop: Project, customer: Customer) -> None:
    """Its data are on the volume, not in the container: orders go on after it is replaced."""
    shop.compose(
        "up", "--detach", "--wait", "--no-deps", "--force-recreate", "kafka", timeout_s=PATIENCE_S
    )
    placed = customer.place()
    assert placed.status_code == 202, placed.text
    confirmed(customer, placed.json()["order_id"])


def test_the_file_at_the_top_is_the_same_shop(container_bed: ContainerBed, shop: Project) -> None:
    """`docker compose up` in the root folder starts the same services from the same images."""
    top = container_bed.project(ROOT / "docker-compose.yml", name=PROJECT).document()["services"]
    ours = shop.document()["services"]
    assert {name: one["image"] for name, one in top.items()} == {
        name: one["image"] for name, one in ours.items()
    }
