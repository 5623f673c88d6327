"""The edge: nginx in front of it all. Configurations, certificates, assets, purge, edge choice."""

from month1_caching_gateway.edge.assets import build
from month1_caching_gateway.edge.certificates import Authority, Issued
from month1_caching_gateway.edge.config import edge_config, edge_files, origin_config
from month1_caching_gateway.edge.nearest import EdgePoint, Seen, nearest
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

__all__ = [
    "Authority",
    "ClientLimits",
    "EdgeCache",
    "EdgePoint",
    "EdgeResolver",
    "EdgeSettings",
    "Issued",
    "Kept",
    "OriginSettings",
    "PurgeSettings",
    "Seen",
    "Servers",
    "Tls",
    "build",
    "create_purge_app",
    "edge_config",
    "edge_files",
    "kept",
    "nearest",
    "origin_config",
    "purge",
    "run_purge",
]
