"""The month's container file, checked without a container engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from month3_messaging.containers import container_addresses, make
from month3_messaging.deadletters import DeskSettings
from month3_messaging.ordering.door import DoorSettings
from month3_messaging.ordering.worker import WorkerSettings
from month3_messaging.orders import ORDERS_TOPIC, PAYMENTS_TOPIC, STOCK_TOPIC
from month3_messaging.partners.service import PartnersSettings
from month3_messaging.topology import PORTS, READERS, SERVICES, environment
from scalelab.issuer import IssuerSettings
from tests.fixtures.container_files import ROOT, ContainerFile, check_secrets, check_variables

JOBS = ("secrets", "prepare-orders", "prepare-partners", "prepare-desk")
FILE = ContainerFile(ROOT / "month3_messaging" / "docker-compose.yml", JOBS)
SETTINGS: dict[str, type[BaseSettings]] = {
    "issuer": IssuerSettings,
    "orders": DoorSettings,
    "orders-worker": WorkerSettings,
    "partners": PartnersSettings,
    "desk": DeskSettings,
}


def test_every_part_of_the_native_stack_has_a_container() -> None:
    """And nothing else is started but the jobs."""
    assert set(FILE.usual) == {*PORTS, *JOBS}


def test_the_desk_keeps_the_letters_of_every_consumer() -> None:
    """The groups' topics are those that the orders' code names."""
    assert READERS == {
        "orders": (PAYMENTS_TOPIC, STOCK_TOPIC),
        "payments": (ORDERS_TOPIC,),
        "stock": (ORDERS_TOPIC,),
    }


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_container_is_told_what_its_native_twin_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same variables, same values, but for what the defaults say already."""
    told = FILE.told(name)
    expected = environment(name, container_addresses(Path("/secrets")))
    assert expected.items() >= told.items()
    assert {key.partition("_")[2] for key in expected if key not in told} <= {
        "LOG_LEVEL",
        "WORKER_LOG_LEVEL",
    }
    assert check_variables(SETTINGS[name], told, monkeypatch)["port"] == PORTS[name]
    assert FILE.services[name]["command"] == ["python", "-m", *SERVICES[name]]


@pytest.mark.parametrize("name", ["orders", "partners", "desk"])
def test_a_preparing_job_is_told_what_its_service_is_told(name: str) -> None:
    """It makes the tables of the very database that the service uses."""
    assert FILE.told(f"prepare-{name}").items() >= FILE.told(name).items()


@pytest.mark.parametrize("name", [*SERVICES, *JOBS])
def test_our_containers_are_closed(name: str) -> None:
    """They may do no more than they must."""
    FILE.check_closed(name)


def test_the_door_alone_is_published() -> None:
    """Both its ports, on 127.0.0.1."""
    assert FILE.published == {
        "orders": ["127.0.0.1:${ORDERS_PORT:-8301}:8301", "127.0.0.1:${LIVE_PORT:-8310}:8310"]
    }
    FILE.check_loopback()


def test_images_are_pinned_and_names_mean_something() -> None:
    """Versions, what is waited for, what is mounted, and where Kafka keeps its log."""
    FILE.check_images()
    FILE.check_waiting()
    FILE.check_mounts()
    FILE.check_kafka_log()


def test_the_secrets_job_can_be_repeated_and_hides_what_it_writes(tmp_path: Path) -> None:
    """A second start keeps every password; nobody but owner and group reads one."""
    kept = check_secrets(make, tmp_path)
    assert kept["pg-orders"] in kept["pgpass"]
