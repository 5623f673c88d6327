"""The month's container file, checked without a container engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from month2_databases.containers import SERVERS, container_addresses, make
from month2_databases.topology import environment
from tests.fixtures.container_files import ROOT, ContainerFile, check_secrets

JOBS = ("secrets", "prepare")
FILE = ContainerFile(ROOT / "month2_databases" / "docker-compose.yml", JOBS)


def test_every_server_of_the_native_stack_has_a_container() -> None:
    """And nothing else is started but the jobs."""
    assert set(FILE.usual) == {*SERVERS, *JOBS, "orderbook"}


@pytest.mark.parametrize("name", ["prepare", "orderbook"])
def test_a_container_is_told_what_its_native_twin_is_told(name: str) -> None:
    """Same variables, same values, but for what the defaults say already."""
    told = FILE.told(name)
    expected = environment(container_addresses(Path("/secrets")))
    assert json.loads(told.pop("ORDERBOOK_SHARDS")) == json.loads(expected.pop("ORDERBOOK_SHARDS"))
    assert expected.items() >= told.items()
    assert expected.keys() - told.keys() <= {"ORDERBOOK_LOG_LEVEL"}


@pytest.mark.parametrize("name", [*JOBS, "orderbook"])
def test_our_containers_are_closed(name: str) -> None:
    """They may do no more than they must."""
    FILE.check_closed(name)


def test_only_the_order_book_is_published() -> None:
    """A profile may add a port; none leaves loopback."""
    assert set(FILE.published) == {"orderbook"}
    FILE.check_loopback()


def test_images_are_pinned_and_names_mean_something() -> None:
    """Versions, what is waited for, and what is mounted."""
    FILE.check_images()
    FILE.check_waiting()
    FILE.check_mounts()


def test_the_secrets_job_can_be_repeated_and_hides_what_it_writes(tmp_path: Path) -> None:
    """A second start keeps every password; nobody but owner and group reads one."""
    kept = check_secrets(make, tmp_path)
    assert kept["pg-orders"] in kept["pgpass"]
