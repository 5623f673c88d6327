"""The gateway as a process of the shop: month 1's data plane, and an admin port beside it.

The data plane listens on `port`; probes and metrics on `admin_port`, so that nobody outside reaches
them through the front door.
"""

from __future__ import annotations

import asyncio

from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway.gateway import Gateway, GatewaySettings, create_admin, load_config
from month1_caching_gateway.ratelimit import Limiter, RedisStore
from month6_capstone.gateway.routes import document
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import Telemetry
from scalelab.web import serve


class GatewayProcessSettings(BaseSettings):
    """Read from GATEWAY_… variables.

    anonymous, customer, sign_in: bucket capacity (requests) and refill (requests per second) per
    key: the address for strangers and sign-in, the customer's id for customers. Shoppers of a demo
    share one address, so the strangers' allowance is wide; tighten it in front of a real public.
    allowed_hosts: names accepted in Host, separated by commas; empty accepts any. cors_origins:
    whose pages' scripts may use the shop, separated by commas; empty means nobody's.
    """

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    admin_host: str = "127.0.0.1"
    admin_port: int
    jwks_url: str
    token_issuer: str
    token_audience: str
    redis_url: str
    identity_url: str
    catalog_url: str
    orders_url: str
    anonymous_capacity: float = 4000.0
    anonymous_per_s: float = 2000.0
    customer_capacity: float = 100.0
    customer_per_s: float = 50.0
    sign_in_capacity: float = 200.0
    sign_in_per_s: float = 50.0
    allowed_hosts: str = "127.0.0.1,localhost,[::1]"
    cors_origins: str = ""
    trace_export: str = "none"
    log_level: str = "info"


def _rates(settings: GatewayProcessSettings) -> dict[str, dict[str, float]]:
    policies = {
        "anonymous": (settings.anonymous_capacity, settings.anonymous_per_s),
        "customer": (settings.customer_capacity, settings.customer_per_s),
        "sign_in": (settings.sign_in_capacity, settings.sign_in_per_s),
    }
    return {
        name: {"capacity": capacity, "rate_per_s": rate}
        for name, (capacity, rate) in policies.items()
    }


async def run_gateway(
    settings: GatewayProcessSettings, telemetry: Telemetry, stop: asyncio.Event
) -> None:
    """Listen until `stop` is set, then drain. Raises Unavailable if a port is taken."""
    clock = SystemClock()
    config = load_config(
        document(
            identity_url=settings.identity_url,
            catalog_url=settings.catalog_url,
            orders_url=settings.orders_url,
            rates=_rates(settings),
            origins=[one.strip() for one in settings.cors_origins.split(",") if one.strip()],
        )
    )
    redis = connect(settings.redis_url, client_name="gateway")
    hosts = frozenset(host for host in settings.allowed_hosts.split(",") if host)
    gateway = Gateway(
        GatewaySettings(allowed_hosts=hosts),
        config.route_table().routes,
        config.upstream_list(),
        TokenVerifier(
            HttpJwks(settings.jwks_url, http_fetch, clock=clock),
            settings.token_issuer,
            settings.token_audience,
            clock,
        ),
        Limiter(RedisStore(redis), clock),
        telemetry,
        clock,
        rates=config.policies(),
    )
    try:
        await gateway.start(settings.host, settings.port)
        await serve(
            create_admin(gateway, telemetry),
            host=settings.admin_host,
            port=settings.admin_port,
            stop=stop,
        )
    finally:
        await gateway.stop()
        await redis.aclose()
