"""The resources of Istio, Linkerd and the Gateway API, as far as the mesh's manifests use them.

Written from the definitions that these projects publish: Istio's networking.istio.io/v1 and
security.istio.io/v1, Linkerd's policy.linkerd.io, gateway.networking.k8s.io/v1. Only used fields
stand here, so a manifest with another one fails until it was looked up and added.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Span = Annotated[str, Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
"""A length of time, as Go writes it: `5s`, `1m30s`."""
Percent = Annotated[int, Field(ge=0, le=100, strict=True)]
Count = Annotated[int, Field(ge=0, le=4_294_967_295, strict=True)]
Port = Annotated[int, Field(ge=1, le=65_535, strict=True)]
Group = Annotated[
    str, Field(max_length=253, pattern=r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9-]+)*$")
]


class Part(BaseModel):
    """A part of a resource: no other fields than these, written in camel case there."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Selector(Part):
    match_labels: dict[str, str]


class Metadata(Part):
    name: Name


class Destination(Part):
    host: str
    subset: str | None = None


class WeightedDestination(Part):
    destination: Destination
    weight: Percent


class HttpRetry(Part):
    """retry_on: Envoy's conditions, with commas between."""

    attempts: Annotated[int, Field(ge=0, strict=True)]
    per_try_timeout: Span
    retry_on: str


class IstioHttpRoute(Part):
    route: Annotated[list[WeightedDestination], Field(min_length=1)]
    timeout: Span
    retries: HttpRetry


class VirtualServiceSpec(Part):
    hosts: Annotated[list[str], Field(min_length=1)]
    http: Annotated[list[IstioHttpRoute], Field(min_length=1)]


class OutlierDetection(Part):
    consecutive_5xx_errors: Annotated[Count, Field(alias="consecutive5xxErrors")]
    base_ejection_time: Span
    max_ejection_percent: Percent


class TrafficPolicy(Part):
    outlier_detection: OutlierDetection


class Subset(Part):
    name: Name
    labels: dict[str, str]


class DestinationRuleSpec(Part):
    host: str
    traffic_policy: TrafficPolicy
    subsets: list[Subset]


class MutualTls(Part):
    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class PeerAuthenticationSpec(Part):
    selector: Selector
    mtls: MutualTls


class Source(Part):
    """principals: `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, without a scheme."""

    principals: list[Annotated[str, Field(pattern=r"^[^/:]+/ns/[a-z0-9-]+/sa/[a-z0-9-]+$")]]


class From(Part):
    source: Source


class Rule(Part):
    from_: Annotated[list[From], Field(alias="from")]


class IstioAuthorizationSpec(Part):
    selector: Selector
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
    rules: list[Rule]


class ServerSpec(Part):
    pod_selector: Selector
    port: Port | Name
    proxy_protocol: Literal["unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"] = "unknown"


class IdentityRef(Part):
    kind: Literal["ServiceAccount", "Namespace"]
    name: Name


class MeshTlsAuthenticationSpec(Part):
    identity_refs: Annotated[list[IdentityRef], Field(min_length=1)]


class Ref(Part):
    group: Group
    kind: str
    name: Name


class LinkerdAuthorizationSpec(Part):
    target_ref: Ref
    required_authentication_refs: Annotated[list[Ref], Field(min_length=1)]


class ParentRef(Ref):
    port: Port


class Timeouts(Part):
    request: Span


class BackendRef(Part):
    """port: must be there, as the backend is a Service."""

    name: Name
    port: Port
    weight: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 1


class HttpRouteRule(Part):
    timeouts: Timeouts
    backend_refs: Annotated[list[BackendRef], Field(min_length=1)]


class HttpRouteSpec(Part):
    parent_refs: Annotated[list[ParentRef], Field(min_length=1)]
    rules: Annotated[list[HttpRouteRule], Field(min_length=1, max_length=16)]


SPECS: dict[tuple[str, str], type[Part]] = {
    ("networking.istio.io/v1", "VirtualService"): VirtualServiceSpec,
    ("networking.istio.io/v1", "DestinationRule"): DestinationRuleSpec,
    ("security.istio.io/v1", "PeerAuthentication"): PeerAuthenticationSpec,
    ("security.istio.io/v1", "AuthorizationPolicy"): IstioAuthorizationSpec,
    ("policy.linkerd.io/v1beta3", "Server"): ServerSpec,
    ("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication"): MeshTlsAuthenticationSpec,
    ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"): LinkerdAuthorizationSpec,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): HttpRouteSpec,
}


class Resource(Part):
    """The frame of every resource; its spec is checked by `read`."""

    api_version: str
    kind: str
    metadata: Metadata
    spec: dict[str, Any]


def read(document: object) -> tuple[Resource, Part]:
    """A resource and its spec. Raises pydantic's ValidationError, or KeyError for a kind that is
    not in SPECS under that version."""
    resource = Resource.model_validate(document)
    return resource, SPECS[resource.api_version, resource.kind].model_validate(resource.spec)
