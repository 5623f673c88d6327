"""A service mesh of sidecars: policy as values, Envoy's configuration made from it."""

from month3_messaging.mesh.envoy_config import (
    AUTHORITY,
    CERTIFICATE,
    KEY,
    cluster_name,
    envoy_config,
)
from month3_messaging.mesh.policy import (
    TRUST_DOMAIN,
    Ejection,
    Inbound,
    Outbound,
    Retries,
    Sidecar,
    Version,
    identity,
)

__all__ = [
    "AUTHORITY",
    "CERTIFICATE",
    "KEY",
    "TRUST_DOMAIN",
    "Ejection",
    "Inbound",
    "Outbound",
    "Retries",
    "Sidecar",
    "Version",
    "cluster_name",
    "envoy_config",
    "identity",
]
