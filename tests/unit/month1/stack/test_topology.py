"""The table of processes: each is told what its settings read, natively and in containers."""

from __future__ import annotations

from pathlib import Path

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
from tests.fixtures.container_files import ROOT, ContainerFile, check_secrets, check_variables

OURS = (*REPLICAS, "issuer", "gateway")
JOBS = ("secrets", "prepare")
FILE = ContainerFile(ROOT / "month1_caching_gateway" / "docker-compose.yml", JOBS)
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


@pytest.mark.parametrize("name", OURS)
def test_a_process_is_told_exactly_what_its_settings_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each replica has its own port."""
    told = check_variables(settings_of(name), environment(name, AT), monkeypatch)
    assert told["port"] == PORTS[name]


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
    told = FILE.told(name)
    expected = environment(name, container_addresses(Path("/secrets")))
    assert expected.items() >= told.items()
    untold = {key.partition("_")[2] for key in expected if key not in told}
    assert untold <= {"LOG_LEVEL", "TRUSTED_PROXIES"}
    check_variables(settings_of(name), told, monkeypatch)


@pytest.mark.parametrize("name", [*OURS, *JOBS, "edge"])
def test_our_containers_are_closed(name: str) -> None:
    """They may do no more than they must."""
    FILE.check_closed(name)


def test_the_two_doors_are_published_and_only_on_loopback() -> None:
    """The edge and the gateway, on 127.0.0.1; what a profile adds is not started with them."""
    assert FILE.published == {
        "gateway": ["127.0.0.1:${DOOR_PORT:-8101}:8101"],
        "edge": ["127.0.0.1:${EDGE_PORT:-8100}:8100"],
    }
    FILE.check_loopback()


def test_images_are_pinned_and_names_mean_something() -> None:
    """Versions, what is waited for, and what is mounted."""
    FILE.check_images()
    FILE.check_waiting()
    FILE.check_mounts()


def test_the_secrets_job_can_be_repeated_and_hides_what_it_writes(tmp_path: Path) -> None:
    """A second start keeps every password; nobody but owner and group reads one."""
    kept = check_secrets(make, tmp_path)
    assert kept["pg-catalog"] in kept["pgpass"]
    assert "catalog-2" in kept["routes.yaml"]
