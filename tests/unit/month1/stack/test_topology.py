"""The table of processes: each is told what its settings read, natively and in containers."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from month1_caching_gateway.catalog.service import CatalogSettings
from month1_caching_gateway.containers import container_addresses, make
from month1_caching_gateway.gateway import load_config
from month1_caching_gateway.gateway.process_settings import ProcessSettings
from month1_caching_gateway.topology import (
    PORTS,
    REPLICAS,
    ROUTES_FILE,
    Addresses,
    environment,
    routes_text,
)
from scalelab.issuer import IssuerSettings

ROOT = Path(__file__).resolve().parents[4]
COMPOSE = ROOT / "month1_caching_gateway" / "docker-compose.yml"
OURS = (*REPLICAS, "issuer", "gateway")
JOBS = ("secrets", "prepare")
AT = Addresses(
    ports=PORTS,
    hosts={},
    database_dsn="postgresql://x",
    redis_url="redis://127.0.0.1:1/0",
    key_file=Path("/secrets/key.pem"),
    routes_file=Path("/secrets/routes.yaml"),
)


def settings_of(name: str) -> type[BaseSettings]:
    if name == "gateway":
        return ProcessSettings
    return IssuerSettings if name == "issuer" else CatalogSettings


def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def check(name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Valid settings, and no variable that nobody reads."""
    settings = settings_of(name)
    prefix = settings.model_config.get("env_prefix", "")
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
        assert key.startswith(prefix)
        assert key.removeprefix(prefix).lower() in settings.model_fields, key
    return settings().model_dump()


@pytest.mark.parametrize("name", OURS)
def test_a_process_is_told_exactly_what_its_settings_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replica has its own port."""
    assert check(name, environment(name, AT), monkeypatch)["port"] == PORTS[name]


def test_default_ports_are_distinct() -> None:
    """Two processes on one port would start only on a machine where the other is gone."""
    assert len(set(PORTS.values())) == len(PORTS)


def test_the_filled_routes_are_what_the_gateway_accepts() -> None:
    """Every replica is an endpoint; the table builds; no placeholder is left."""
    text = routes_text(ROUTES_FILE.read_text(encoding="utf-8"), AT)
    assert "${" not in text
    config = load_config(yaml.safe_load(text))
    assert config.route_table().routes
    [catalog] = [one for one in config.upstream_list() if one.name == "catalog"]
    assert [at.port for at in catalog.endpoints] == [PORTS[name] for name in REPLICAS]


def test_every_write_in_the_routes_demands_a_scope_and_a_rate() -> None:
    """What changes something is neither open nor unlimited."""
    config = load_config(yaml.safe_load(routes_text(ROUTES_FILE.read_text("utf-8"), AT)))
    for route in config.route_table().routes:
        if route.methods - {"GET", "HEAD"}:
            assert (route.auth, route.scope) == ("user", "admin"), route.name
            assert route.rate is not None, route.name


def test_a_placeholder_without_a_process_is_an_error() -> None:
    """A misspelt name must not reach the gateway as text."""
    with pytest.raises(KeyError):
        routes_text("port: ${CATALOGUE_1_PORT}", AT)


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_told_what_its_native_twin_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same variables, same values, but for what the defaults say already."""
    told = {key: str(value) for key, value in services()[name]["environment"].items()}
    expected = environment(name, container_addresses(Path("/secrets")))
    assert expected.items() >= told.items()
    untold = {key.partition("_")[2] for key in expected if key not in told}
    assert untold <= {"LOG_LEVEL", "TRUSTED_PROXIES"}
    check(name, told, monkeypatch)


@pytest.mark.parametrize("name", [*OURS, *JOBS, "edge"])
def test_our_containers_are_closed(name: str) -> None:
    """Read-only root, no capabilities, no new privileges, a memory limit."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


def test_the_two_doors_are_published_and_only_on_loopback() -> None:
    """The edge and the gateway, on 127.0.0.1; what a profile adds is not started with them."""
    usual = {name: one for name, one in services().items() if not one.get("profiles")}
    published = {name: one["ports"] for name, one in usual.items() if one.get("ports")}
    assert published == {
        "gateway": ["127.0.0.1:${DOOR_PORT:-8101}:8101"],
        "edge": ["127.0.0.1:${EDGE_PORT:-8100}:8100"],
    }


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
    assert before["pg-catalog"] in before["pgpass"]
    assert "catalog-2" in before["routes.yaml"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0, path
