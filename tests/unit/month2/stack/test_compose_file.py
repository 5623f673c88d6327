"""The month's container file, checked without a container engine."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from month2_databases.containers import SERVERS, container_addresses, make
from month2_databases.topology import environment

ROOT = Path(__file__).resolve().parents[4]
COMPOSE = ROOT / "month2_databases" / "docker-compose.yml"
JOBS = ("secrets", "prepare")


def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def usual() -> dict[str, Any]:
    """What starts without a profile."""
    return {name: one for name, one in services().items() if not one.get("profiles")}


def test_every_server_of_the_native_stack_has_a_container() -> None:
    """And nothing else is started but the jobs."""
    assert set(usual()) == {*SERVERS, *JOBS, "orderbook"}


@pytest.mark.parametrize("name", ["prepare", "orderbook"])
def test_a_container_is_told_what_its_native_twin_is_told(name: str) -> None:
    """Same variables, same values, but for what the defaults say already."""
    told = {key: str(value) for key, value in services()[name]["environment"].items()}
    expected = environment(container_addresses(Path("/secrets")))
    assert json.loads(told.pop("ORDERBOOK_SHARDS")) == json.loads(expected.pop("ORDERBOOK_SHARDS"))
    assert expected.items() >= told.items()
    assert expected.keys() - told.keys() <= {"ORDERBOOK_LOG_LEVEL"}


@pytest.mark.parametrize("name", [*JOBS, "orderbook"])
def test_our_containers_are_closed(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, a memory limit."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


def test_every_published_port_is_on_loopback() -> None:
    """The order book alone is published without a profile."""
    published = {name: one["ports"] for name, one in services().items() if one.get("ports")}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert set(published) & set(usual()) == {"orderbook"}


def test_images_are_pinned() -> None:
    """Official images carry a version; none is `latest`."""
    for name, service in services().items():
        if not service["image"].endswith(":local"):
            assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)+", service["image"]), name


def test_whoever_is_waited_for_can_be() -> None:
    """`service_healthy` needs a health check; `completed` needs a job; names exist."""
    every = services()
    for service in every.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert every[needed]["healthcheck"]["test"], needed
            else:
                assert how["condition"] == "service_completed_successfully"
                assert needed in JOBS


def test_mounted_files_are_in_the_repository() -> None:
    """A bind mount of a missing file would silently become an empty folder."""
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).is_file(), source


def test_the_secrets_job_can_be_repeated_and_hides_what_it_writes(tmp_path: Path) -> None:
    """A second start keeps every password; nobody but owner and group reads one."""
    make(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    make(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    assert before["pg-orders"] in before["pgpass"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0, path
