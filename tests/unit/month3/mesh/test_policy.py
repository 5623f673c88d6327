"""What a mesh may be told, and what becomes of it in Envoy's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from month3_messaging.mesh import (
    Ejection,
    Inbound,
    Outbound,
    Retries,
    Sidecar,
    Version,
    envoy_config,
    identity,
)
from scalelab.errors import InvalidInput

V1 = Version("v1", 90, (7001, 7002))
V2 = Version("v2", 10, (7003,))


def walk(value: Any) -> list[Any]:
    """The value and everything inside it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for one in inner for found in walk(one))]


def fields(config: Any, name: str) -> list[Any]:
    """Every value under that name, wherever it stands."""
    return [one[name] for one in walk(config) if isinstance(one, dict) and name in one]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda: identity("shop/../stock"), "service"),
        (lambda: identity(""), "service"),
        (lambda: Inbound("stock", 1, 2, ("shop*",)), "service"),
        (lambda: Outbound("stock", 1, ()), "weight"),
        (lambda: Outbound("stock", 1, (Version("v1", 0, (2,)),)), "weight"),
        (lambda: Outbound("stock", 1, (Version("v1", -1, (2,)), V2)), "weight"),
        (lambda: Outbound("stock", 1, (Version("v1", 1, ()),)), "ports"),
        (lambda: Outbound("stock", 1, (V1, V1)), "versions"),
        (lambda: Outbound("stock", 1, (V1,), timeout_s=0.5), "try_s"),
        (lambda: Outbound("stock", 1, (V1,), retries=Retries(retries=11)), "retries"),
        (lambda: Outbound("stock", 1, (V1,), ejection=Ejection(failures=0)), "ejection"),
        (lambda: Sidecar("shop", Inbound("stock", 1, 2)), "inbound"),
        (lambda: Sidecar("stock", Inbound("stock", 1, 2), (Outbound("ink", 1, (V1,)),)), "port"),
    ],
)
def test_a_policy_without_sense_is_refused(wrong: Callable[[], object], field: str) -> None:
    """By the name of its field, before any proxy sees it."""
    with pytest.raises(InvalidInput) as refused:
        wrong()
    assert refused.value.field == field


def test_every_door_asks_for_a_certificate_and_every_way_out_shows_one() -> None:
    """M1: no listener is for strangers, and no cluster would speak plain text to peers."""
    sidecar = Sidecar("stock", Inbound("stock", 1, 2, ("shop",)), (Outbound("ink", 3, (V1,)),))
    config = envoy_config(sidecar)["static_resources"]
    inbound, outbound = config["listeners"]
    assert fields(inbound, "require_client_certificate") == [True]
    assert fields(outbound, "require_client_certificate") == []
    secured = {one["name"]: "transport_socket" in one for one in config["clusters"]}
    assert secured == {"service": False, "ink-v1-3": True}
    assert set(fields(config, "tls_minimum_protocol_version")) == {"TLSv1_3"}


def test_everything_listens_on_loopback() -> None:
    """Addresses of listeners and of peers."""
    sidecar = Sidecar("stock", Inbound("stock", 1, 2, ("shop",)), (Outbound("ink", 3, (V1, V2)),))
    addresses = [one["address"] for one in fields(envoy_config(sidecar), "socket_address")]
    assert set(addresses) == {"127.0.0.1"}
    assert len(addresses) == 2 + 1 + 3


def test_who_names_no_caller_lets_nobody_in() -> None:
    """M2: no policy allows, where one caller makes one."""
    closed = envoy_config(Sidecar("stock", Inbound("stock", 1, 2)))
    opened = envoy_config(Sidecar("stock", Inbound("stock", 1, 2, ("shop",))))
    assert [rules["policies"] for rules in fields(closed, "rules")] == [{}]
    assert fields(opened, "principal_name") == [{"exact": identity("shop")}]


def test_a_peer_is_known_by_its_identity_not_by_its_address() -> None:
    """M3: every cluster expects the one URI of the service."""
    config = envoy_config(Sidecar("shop", outbounds=(Outbound("stock", 3, (V1, V2)),)))
    expected = {"san_type": "URI", "matcher": {"exact": identity("stock")}}
    assert fields(config, "match_typed_subject_alt_names") == [[expected], [expected]]


def test_weights_and_retries_are_those_of_the_policy() -> None:
    """M4 and M5, word for word."""
    way = Outbound("stock", 3, (V1, V2), timeout_s=4.0, retries=Retries(3, 0.5))
    config = envoy_config(Sidecar("shop", outbounds=(way,)))
    clusters = fields(config, "weighted_clusters")[0]["clusters"]
    assert {one["name"]: one["weight"] for one in clusters} == {"stock-v1-3": 90, "stock-v2-3": 10}
    assert fields(config, "num_retries") == [3]
    assert fields(config, "per_try_timeout") == ["0.500s"]
    assert fields(config, "timeout") == ["4.000s"]
