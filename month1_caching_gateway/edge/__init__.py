"""The edge: nginx in front of it all. Configurations, certificates, assets, purge, edge choice."""

from month1_caching_gateway.edge.assets import build
from month1_caching_gateway.edge.config import edge_config, edge_files, origin_config
from month1_caching_gateway.edge.differences import DIFFERENCES, Difference
from month1_caching_gateway.edge.nearest import EdgePoint, Seen, nearest
from month1_caching_gateway.edge.nginx_gateway import NginxGateway, gateway_config
from month1_caching_gateway.edge.purge import Kept, kept, purge
from month1_caching_gateway.edge.purge_service import (
    PurgeSettings,
    create_purge_app,
    run_purge,
)
from month1_caching_gateway.edge.resolver import EdgeResolver
from month1_caching_gateway.edge.settings import (
    ClientLimits,
    EdgeCache,
    EdgeSettings,
    OriginSettings,
    Servers,
    Tls,
)
from month1_caching_gateway.edge.verifier import create_verifier_app
from scalelab.security.certificates import Authority, Issued

__all__ = [
    "DIFFERENCES",
    "Authority",
    "ClientLimits",
    "Difference",
    "EdgeCache",
    "EdgePoint",
    "EdgeResolver",
    "EdgeSettings",
    "Issued",
    "Kept",
    "NginxGateway",
    "OriginSettings",
    "PurgeSettings",
    "Seen",
    "Servers",
    "Tls",
    "build",
    "create_purge_app",
    "create_verifier_app",
    "edge_config",
    "edge_files",
    "gateway_config",
    "kept",
    "nearest",
    "origin_config",
    "purge",
    "run_purge",
]
