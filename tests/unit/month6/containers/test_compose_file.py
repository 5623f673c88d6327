"""The shop's container file, checked without a container engine."""

from __future__ import annotations

import importlib
import re

import pytest
import yaml
from pydantic_settings import BaseSettings

from month6_capstone.gateway.service import GatewayProcessSettings
from month6_capstone.processes import PROCESSES
from month6_capstone.topology import SERVICES
from tests.fixtures.container_files import ROOT, ContainerFile, check_variables

OURS = (*SERVICES, "gateway")
JOBS = ("secrets", "prepare")
TOOLS = ("verify",)
FILE = ContainerFile(ROOT / "month6_capstone" / "docker-compose.yml", JOBS)


def _settings(name: str) -> type[BaseSettings]:
    if name == "gateway":
        return GatewayProcessSettings
    process = PROCESSES[name]
    return getattr(importlib.import_module(process.module), process.settings)


def test_the_root_file_includes_the_shop() -> None:
    """`docker compose up` at the top starts the shop; the included file exists."""
    included = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["include"]
    assert included == ["month6_capstone/docker-compose.yml"]
    assert all((ROOT / path).is_file() for path in included)


def test_every_process_of_the_shop_has_a_container() -> None:
    """What the native stack starts, the container file starts."""
    assert set(OURS) <= set(FILE.services)


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_told_what_its_process_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables make valid settings, and none is misspelt."""
    told = check_variables(_settings(name), FILE.told(name), monkeypatch)
    assert told["host"] == "0.0.0.0"


def test_the_preparing_job_knows_every_database() -> None:
    """It migrates what the services use: same variables, same values."""
    services = FILE.services
    prepare = services["prepare"]["environment"]
    for name in ("identity", "catalog", "payments", "inventory", "orders"):
        assert services[name]["environment"].items() <= prepare.items()


@pytest.mark.parametrize("name", [*OURS, *JOBS, *TOOLS])
def test_our_containers_are_closed(name: str) -> None:
    """They may do no more than they must."""
    FILE.check_closed(name)


def test_one_image_serves_all_of_ours() -> None:
    """Eleven builds of one Dockerfile would be eleven times the wait."""
    services = FILE.services
    assert {services[name]["image"] for name in (*OURS, *JOBS, *TOOLS)} == {"scalelab/shop:local"}


@pytest.mark.parametrize("name", [*OURS, *JOBS])
def test_a_container_runs_the_process_of_its_name(name: str) -> None:
    """The command is the one that the image's entry module understands."""
    assert FILE.services[name]["command"] == ["python", "-m", "month6_capstone", name]


def test_the_verifier_knows_every_store() -> None:
    """It starts only when asked for, and its variables make valid settings."""
    from month6_capstone.truth.__main__ import settings_in

    service = FILE.services["verify"]
    assert service["profiles"] == ["verify"]
    settings = settings_in(service["environment"])
    assert set(settings.shards) == {"shard-0", "shard-1"}
    assert str(settings.book_path) == FILE.services["provider"]["environment"]["PROVIDER_BOOK_PATH"]


def test_kafka_keeps_its_log_on_its_volume() -> None:
    """What was acknowledged outlives the container."""
    FILE.check_kafka_log()


def test_one_port_is_published_and_only_on_loopback() -> None:
    """The front door, on 127.0.0.1."""
    assert FILE.published == {"gateway": ["127.0.0.1:${SHOP_PORT:-8080}:8080"]}
    FILE.check_loopback()


def test_images_are_pinned_and_names_mean_something() -> None:
    """Versions, who builds, what is waited for, and what is mounted."""
    FILE.check_images()
    FILE.check_waiting()
    FILE.check_mounts()


def test_the_image_runs_unprivileged_with_locked_packages() -> None:
    """Pinned base by argument, hashed packages, a numeric user, no shell form surprises."""
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "USER 10001:10001" in text
    assert "--require-hashes" in text
    assert re.search(r"ARG PYTHON=\d+\.\d+", text)
    for month in range(1, 7):
        assert f"COPY month{month}_" in text
