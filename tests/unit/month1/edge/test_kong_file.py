"""Kong's file says what routes.yaml says, in Kong's words; read without Kong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import month1_caching_gateway.edge as edge_room
from month1_caching_gateway.edge.nginx_gateway import path_pattern
from month1_caching_gateway.gateway import Route, load_config
from month1_caching_gateway.topology import PORTS, ROUTES_FILE, Addresses, routes_text

FILE = Path(edge_room.__file__).with_name("kong.yaml")
COMPOSE = Path(edge_room.__file__).parents[1] / "docker-compose.yml"
PLUGINS = {
    "correlation-id",
    "file-log",
    "jwt",
    "prometheus",
    "rate-limiting",
    "request-size-limiting",
    "request-transformer",
    "response-transformer",
}
"""All of them in Kong's open edition."""
ENTITIES = {
    "": {"_format_version", "_transform", "upstreams", "services", "plugins"},
    "upstreams": {"name", "algorithm", "targets", "healthchecks"},
    "services": {"name", "host", "port", "protocol", "connect_timeout", "read_timeout"}
    | {"write_timeout", "retries", "routes"},
    "routes": {"name", "paths", "methods", "strip_path", "tags", "plugins"},
    "plugins": {"name", "config"},
    "targets": {"target", "weight"},
}


@pytest.fixture(scope="module")
def kong() -> dict[str, Any]:
    """The file as it is."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def kong_routes(kong: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str, bool, str]]:
    """(name of service, path) and method → what is demanded."""
    found: dict[tuple[str, str], tuple[str, str, bool, str]] = {}
    for service in kong["services"]:
        for route in service["routes"]:
            (path,) = route["paths"]
            token = "jwt" in {plugin["name"] for plugin in route.get("plugins", [])}
            assert token == ("token" in route["tags"])
            for method in route["methods"]:
                found[method, path] = (service["name"], path, token, route["tags"][0])
    return found


def our_routes() -> list[Route]:
    """The routes of routes.yaml, filled in."""
    addresses = Addresses(PORTS, {}, "", "", Path("key"), Path("routes"))
    text = routes_text(ROUTES_FILE.read_text(encoding="utf-8"), addresses)
    return list(load_config(yaml.safe_load(text)).route_table().routes)


def test_every_route_is_there_with_its_service_and_its_conditions(kong: dict[str, Any]) -> None:
    """Path, methods, service, whether a token is wanted, which allowance; and no route more."""
    wanted: dict[tuple[str, str], tuple[str, str, bool, str]] = {}
    for route in our_routes():
        path = f"~{path_pattern(route)}$"
        implied = {"HEAD"} if "GET" in route.methods else set[str]()
        for method in route.methods | implied:
            wanted[method, path] = (route.upstream, path, route.auth != "none", route.rate or "")
    assert kong_routes(kong) == wanted


def test_only_known_entities_and_open_plugins_are_used(kong: dict[str, Any]) -> None:
    """A misspelt key would be refused by Kong when it starts, and not before."""

    def check(kind: str, entity: dict[str, Any]) -> None:
        assert set(entity) <= ENTITIES[kind], (kind, entity)
        for key, value in entity.items():
            if key in ENTITIES and key:
                for one in value:
                    check(key, one)
        if kind == "plugins":
            assert entity["name"] in PLUGINS

    check("", kong)
    assert kong["_format_version"] == "3.0"


def test_paths_are_anchored_and_kept(kong: dict[str, Any]) -> None:
    """Kong matches a regular expression by its beginning, and strips what it matched by default."""
    for service in kong["services"]:
        for route in service["routes"]:
            assert all(path.startswith("~/") and path.endswith("$") for path in route["paths"])
            assert route["strip_path"] is False


def test_the_targets_are_the_replicas_of_the_container_file(kong: dict[str, Any]) -> None:
    """By their names between containers."""
    services = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    (upstream,) = kong["upstreams"]
    for target in upstream["targets"]:
        name, _, port = target["target"].partition(":")
        assert services[name]["environment"]["CATALOG_PORT"] == int(port) == PORTS[name]
    assert {service["host"] for service in kong["services"]} == {"catalog", "issuer"}


def test_the_container_is_started_only_when_asked_for(kong: dict[str, Any]) -> None:
    """Profile `kong`, no database, this file read-only, one port on loopback."""
    service = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["kong"]
    assert service["profiles"] == ["kong"]
    assert service["image"].startswith("kong:3.")
    assert service["environment"]["KONG_DATABASE"] == "off"
    assert service["volumes"] == ["./edge/kong.yaml:/kong/kong.yaml:ro"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
