"""The shop's container file, checked without a container engine."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from month6_capstone.gateway.service import GatewayProcessSettings
from month6_capstone.processes import PROCESSES
from month6_capstone.topology import SERVICES

ROOT = Path(__file__).resolve().parents[4]
FILE = ROOT / "month6_capstone" / "docker-compose.yml"
OURS = (*SERVICES, "gateway")
JOBS = ("secrets", "prepare")
TOOLS = ("verify",)


def _services() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]


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
    assert set(OURS) <= set(_services())


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_told_what_its_process_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables make valid settings, and none is misspelt."""
    settings = _settings(name)
    prefix = settings.model_config.get("env_prefix", "")
    variables = {key: str(value) for key, value in _services()[name]["environment"].items()}
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
        assert key.startswith(prefix)
        assert key.removeprefix(prefix).lower() in settings.model_fields, key
    assert settings().model_dump()["host"] == "0.0.0.0"


def test_the_preparing_job_knows_every_database() -> None:
    """It migrates what the services use: same variables, same values."""
    services = _services()
    prepare = services["prepare"]["environment"]
    for name in ("identity", "catalog", "payments", "inventory", "orders"):
        assert services[name]["environment"].items() <= prepare.items()


@pytest.mark.parametrize("name", [*OURS, *JOBS, *TOOLS])
def test_our_containers_are_closed(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, a memory limit."""
    service = _services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


def test_one_image_serves_all_of_ours_and_one_job_builds_it() -> None:
    """Eleven builds of one Dockerfile would be eleven times the wait."""
    services = _services()
    assert {services[name]["image"] for name in (*OURS, *JOBS, *TOOLS)} == {"scalelab/shop:local"}
    assert [name for name, one in services.items() if "build" in one] == ["secrets"]


@pytest.mark.parametrize("name", [*OURS, *JOBS])
def test_a_container_runs_the_process_of_its_name(name: str) -> None:
    """The command is the one that the image's entry module understands."""
    assert _services()[name]["command"] == ["python", "-m", "month6_capstone", name]


def test_the_verifier_knows_every_store() -> None:
    """It starts only when asked for, and its variables make valid settings."""
    from month6_capstone.truth.__main__ import settings_in

    service = _services()["verify"]
    assert service["profiles"] == ["verify"]
    settings = settings_in(service["environment"])
    assert set(settings.shards) == {"shard-0", "shard-1"}
    assert str(settings.book_path) == _services()["provider"]["environment"]["PROVIDER_BOOK_PATH"]


def test_kafka_keeps_its_log_on_its_volume() -> None:
    """Its image's own default is a folder inside the container, gone with it."""
    service = _services()["kafka"]
    volumes = {volume.split(":")[1] for volume in service["volumes"]}
    assert service["environment"]["KAFKA_LOG_DIRS"] in volumes


def test_one_port_is_published_and_only_on_loopback() -> None:
    """The front door, on 127.0.0.1."""
    published = {name: s["ports"] for name, s in _services().items() if s.get("ports")}
    assert published == {"gateway": ["127.0.0.1:${SHOP_PORT:-8080}:8080"]}


def test_images_are_pinned() -> None:
    """Official images carry a version; none is `latest`."""
    for name, service in _services().items():
        if service["image"].endswith(":local"):
            continue
        assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+", service["image"]), name


def test_whoever_is_waited_for_can_be() -> None:
    """`service_healthy` needs a health check; `completed` needs a job; names exist."""
    services = _services()
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            other = services[needed]
            if how["condition"] == "service_healthy":
                assert other["healthcheck"]["test"], needed
            else:
                assert how["condition"] == "service_completed_successfully"
                assert needed in JOBS


def test_mounted_files_are_in_the_repository() -> None:
    """A bind mount of a missing file would silently become an empty folder."""
    for service in _services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (FILE.parent / source).is_file(), source


def test_the_image_runs_unprivileged_with_locked_packages() -> None:
    """Pinned base by argument, hashed packages, a numeric user, no shell form surprises."""
    text = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert "USER 10001:10001" in text
    assert "--require-hashes" in text
    assert re.search(r"ARG PYTHON=\d+\.\d+", text)
    for month in range(1, 7):
        assert f"COPY month{month}_" in text
