"""A sidecar's policy as the configuration of Envoy, its JSON as values. Pure.

Files that it names stand in the server's folder: `authority.crt`, `workload.crt`, `workload.key`.
Between sidecars HTTP/2 is spoken, so that one connection and one handshake serve many calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from month3_messaging.mesh.policy import Inbound, Outbound, Sidecar, Version, identity

AUTHORITY, CERTIFICATE, KEY = "authority.crt", "workload.crt", "workload.key"
Json = dict[str, Any]

_TYPES = "type.googleapis.com/envoy"
_RETRY_ON = "connect-failure,refused-stream,reset,gateway-error"
"""What another instance may do better: no connection, none any more, or 502, 503, 504."""


def envoy_config(sidecar: Sidecar) -> Json:
    """The bootstrap without `admin`, which belongs to whoever starts the process."""
    listeners: list[Json] = []
    clusters: list[Json] = []
    if sidecar.inbound is not None:
        listeners.append(_inbound_listener(sidecar.inbound))
        clusters.append(_service_cluster(sidecar.inbound))
    for outbound in sidecar.outbounds:
        listeners.append(_outbound_listener(outbound))
        clusters += [_version_cluster(outbound, version) for version in outbound.versions]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def cluster_name(outbound: Outbound, version: Version) -> str:
    """Under which Envoy counts what goes to a version by this way out."""
    return f"{outbound.service}-{version.name}-{outbound.port}"


def _inbound_listener(inbound: Inbound) -> Json:
    allowed = [
        {"authenticated": {"principal_name": {"exact": identity(caller)}}}
        for caller in inbound.callers
    ]
    policies = {"callers": {"permissions": [{"any": True}], "principals": allowed}}
    rules: Json = {"action": "ALLOW", "policies": policies if allowed else {}}
    gate = _typed("envoy.filters.http.rbac", "extensions.filters.http.rbac.v3.RBAC", rules=rules)
    manager = _http_manager(
        "inbound",
        routes=[{"match": {"prefix": "/"}, "route": {"cluster": "service", "timeout": "0s"}}],
        filters=[gate],
        # Whoever claims in a header to be somebody is not heard; the certificate's name is told.
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
    )
    tls = _typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        common_tls_context=_tls({}),
    )
    return _listener("inbound", inbound.port, manager, transport_socket=tls)


def _outbound_listener(outbound: Outbound) -> Json:
    weighted = [
        {"name": cluster_name(outbound, version), "weight": version.weight}
        for version in outbound.versions
    ]
    retries = outbound.retries
    policy: Json = {
        "retry_on": _RETRY_ON,
        "num_retries": retries.retries,
        "per_try_timeout": _seconds(retries.try_s),
        "retry_host_predicate": [
            _typed(
                "envoy.retry_host_predicates.previous_hosts",
                "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": 5,
    }
    route: Json = {
        "weighted_clusters": {"clusters": weighted},
        "timeout": _seconds(outbound.timeout_s),
        "retry_policy": policy,
    }
    name = f"outbound-{outbound.service}-{outbound.port}"
    routes = [{"match": {"prefix": "/"}, "route": route}]
    return _listener(name, outbound.port, _http_manager(name, routes=routes, filters=[]))


def _http_manager(
    prefix: str, *, routes: Sequence[Json], filters: Sequence[Json], **more: Any
) -> Json:
    router = _typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    return _typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=prefix,
        server_header_transformation="PASS_THROUGH",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[*filters, router],
        **more,
    )


def _listener(name: str, port: int, manager: Json, **chain: Any) -> Json:
    filter_chain: Json = {"filters": [manager], **chain}
    return {"name": name, "address": _address(port), "filter_chains": [filter_chain]}


def _service_cluster(inbound: Inbound) -> Json:
    """The service itself: plain HTTP/1.1 on loopback, as if there were no mesh."""
    return {
        "name": "service",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints("service", [inbound.service_port]),
    }


def _version_cluster(outbound: Outbound, version: Version) -> Json:
    name = cluster_name(outbound, version)
    ejection = outbound.ejection
    expected = {"san_type": "URI", "matcher": {"exact": identity(outbound.service)}}
    tls = _typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_tls({"match_typed_subject_alt_names": [expected]}),
    )
    http2: Json = {
        "@type": f"{_TYPES}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    budget = {"budget_percent": {"value": outbound.retries.budget_percent}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _seconds(outbound.retries.try_s),
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": _endpoints(name, version.ports),
        "transport_socket": tls,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
        },
        "circuit_breakers": {
            "thresholds": [{"retry_budget": {**budget, "min_retry_concurrency": 3}}]
        },
        "outlier_detection": {
            "consecutive_5xx": ejection.failures,
            "consecutive_gateway_failure": ejection.failures,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": _seconds(ejection.ejected_s),
            "max_ejection_percent": ejection.most_percent,
        },
    }


def _tls(validation: Json) -> Json:
    return {
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",  # as a client Envoy would stop at 1.2
        },
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": _file(CERTIFICATE), "private_key": _file(KEY)}],
        "validation_context": {"trusted_ca": _file(AUTHORITY), **validation},
    }


def _endpoints(cluster: str, ports: Sequence[int]) -> Json:
    endpoints = [{"endpoint": {"address": _address(port)}} for port in ports]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _file(name: str) -> Json:
    return {"filename": f"$DIR/{name}"}


def _seconds(value_s: float) -> str:
    return f"{value_s:.3f}s"


def _typed(name: str, kind: str, **fields: Any) -> Json:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}
