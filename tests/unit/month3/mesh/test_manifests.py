"""The mesh's manifests for Istio and Linkerd, checked without a cluster: form, names, numbers."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from pydantic import ValidationError

from month3_messaging.mesh import Ejection, Outbound, Retries, Version
from tests.unit.month3.mesh.mesh_resources import (
    SPECS,
    DestinationRuleSpec,
    HttpRouteSpec,
    IstioAuthorizationSpec,
    LinkerdAuthorizationSpec,
    MeshTlsAuthenticationSpec,
    Part,
    PeerAuthenticationSpec,
    Resource,
    ServerSpec,
    VirtualServiceSpec,
    read,
)

FOLDER = Path(__file__).resolve().parents[4] / "month3_messaging" / "mesh" / "manifests"
RETRY_CONDITIONS = {
    *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure"),
    *("refused-stream", "retriable-4xx", "envoy-ratelimited", "cancelled", "unavailable"),
}
"""Of Envoy's, those that Istio hands on."""

P = TypeVar("P", bound=Part)


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def resources(name: str) -> list[tuple[Resource, Part]]:
    return [read(document) for document in documents(name)]


def only(name: str, kind: type[P]) -> tuple[str, P]:
    """The name and the spec of the file's only resource of that kind."""
    [found] = [(r.metadata.name, spec) for r, spec in resources(name) if isinstance(spec, kind)]
    return found


def seconds(span: str) -> float:
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(int(n) * units[u] for n, u in re.findall(r"(\d+)(h|ms|m|s)", span))


def test_every_resource_has_the_form_that_its_project_publishes() -> None:
    """All kinds that are written down are used, and no other."""
    every = [*resources("istio.yaml"), *resources("linkerd.yaml")]
    assert {(resource.api_version, resource.kind) for resource, _ in every} == set(SPECS)


def _deep(document: Any, *path: str | int) -> Any:
    for step in path:
        document = document[step]
    return document


@pytest.mark.parametrize(
    "spoil",
    [
        lambda istio: _deep(istio, 0, "spec", "http", 0, "retries").update(attempt=2),
        lambda istio: _deep(istio, 0, "spec", "http", 0).update(retries={"attempts": "2"}),
        lambda istio: _deep(istio, 0, "spec", "http", 0).update(timeout="5 seconds"),
        lambda istio: _deep(istio, 0, "spec", "http", 0, "route", 0).update(weight=101),
        lambda istio: _deep(istio, 1, "spec").update(outlierDetection={}),
        lambda istio: _deep(istio, 1, "spec").pop("host"),
        lambda istio: _deep(istio, 2, "spec", "mtls").update(mode="strict"),
        lambda istio: _deep(istio, 3, "spec", "rules", 0, "from", 0, "source").update(
            principals=["spiffe://cluster.local/ns/shop/sa/shop"]
        ),
        lambda istio: istio[0].update(apiVersion="networking.istio.io/v2"),
    ],
    ids=[
        "unknown field", "text for a number", "no duration", "over 100 %", "in the wrong place",
        "missing", "unknown mode", "a principal with a scheme", "unknown version",
    ],
)  # fmt: skip
def test_the_check_bites(spoil: Callable[[Any], object]) -> None:
    """A mistake of each kind is seen."""
    spoiled = copy.deepcopy(documents("istio.yaml"))
    spoil(spoiled)
    with pytest.raises((ValidationError, KeyError)):
        [read(document) for document in spoiled]


def test_what_istio_is_told_names_what_is_there() -> None:
    """Subsets exist, shares are whole, conditions are Envoy's, labels are those of one workload."""
    _, service = only("istio.yaml", VirtualServiceSpec)
    _, rule = only("istio.yaml", DestinationRuleSpec)
    [route] = service.http
    assert {one.destination.host for one in route.route} == {rule.host, *service.hosts}
    assert {one.destination.subset for one in route.route} == {one.name for one in rule.subsets}
    assert sum(one.weight for one in route.route) == 100
    assert set(route.retries.retry_on.split(",")) <= RETRY_CONDITIONS
    _, peers = only("istio.yaml", PeerAuthenticationSpec)
    _, callers = only("istio.yaml", IstioAuthorizationSpec)
    assert peers.selector == callers.selector


def test_what_linkerd_is_told_names_what_is_there() -> None:
    """The policy's target and its authentication are in the file; a version is a Service."""
    server, _ = only("linkerd.yaml", ServerSpec)
    authentication, _ = only("linkerd.yaml", MeshTlsAuthenticationSpec)
    _, policy = only("linkerd.yaml", LinkerdAuthorizationSpec)
    assert (policy.target_ref.kind, policy.target_ref.name) == ("Server", server)
    assert [(ref.kind, ref.name) for ref in policy.required_authentication_refs] == [
        ("MeshTLSAuthentication", authentication)
    ]
    _, route = only("linkerd.yaml", HttpRouteSpec)
    assert [(ref.group, ref.kind) for ref in route.parent_refs] == [("core", "Service")]


def test_both_say_what_our_policy_says() -> None:
    """M1 and M2, retries, time-outs, ejection and shares, as in policy.py."""
    _, service = only("istio.yaml", VirtualServiceSpec)
    [route] = service.http
    _, rule = only("istio.yaml", DestinationRuleSpec)
    _, peers = only("istio.yaml", PeerAuthenticationSpec)
    _, allowed = only("istio.yaml", IstioAuthorizationSpec)
    _, http_route = only("linkerd.yaml", HttpRouteSpec)
    [linkerd_rule] = http_route.rules
    ours = Outbound("stock", 7000, (Version("v1", 95, (7001,)), Version("v2", 5, (7002,))))
    assert Retries(route.retries.attempts, seconds(route.retries.per_try_timeout)) == ours.retries
    assert seconds(route.timeout) == seconds(linkerd_rule.timeouts.request) == ours.timeout_s
    found = rule.traffic_policy.outlier_detection
    assert ours.ejection == Ejection(
        found.consecutive_5xx_errors, seconds(found.base_ejection_time), found.max_ejection_percent
    )
    weights = {version.name: version.weight for version in ours.versions}
    assert {one.destination.subset: one.weight for one in route.route} == weights
    assert {one.name: one.weight for one in linkerd_rule.backend_refs} == {
        f"stock-{name}": weight for name, weight in weights.items()
    }
    assert (peers.mtls.mode, allowed.action) == ("STRICT", "ALLOW")
    [one_rule] = allowed.rules
    [one_from] = one_rule.from_
    _, authentication = only("linkerd.yaml", MeshTlsAuthenticationSpec)
    assert [name.rpartition("/")[2] for name in one_from.source.principals] == ["shop"]
    assert [(ref.kind, ref.name) for ref in authentication.identity_refs] == [
        ("ServiceAccount", "shop")
    ]
