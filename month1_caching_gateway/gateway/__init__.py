"""The API gateway's data plane: HTTP/1.1 in, HTTP/1.1 out, every promise checked on the way."""

from month1_caching_gateway.gateway.admin import create_admin
from month1_caching_gateway.gateway.gateway import Gateway
from month1_caching_gateway.gateway.route_config import GatewayConfig, load_config
from month1_caching_gateway.gateway.routes import Route, RouteTable
from month1_caching_gateway.gateway.settings import Endpoint, GatewaySettings, Retries, Upstream
from month1_caching_gateway.gateway.snapshot import Rules

__all__ = [
    "Endpoint",
    "Gateway",
    "GatewayConfig",
    "GatewaySettings",
    "Retries",
    "Route",
    "RouteTable",
    "Rules",
    "Upstream",
    "create_admin",
    "load_config",
]
