"""The month's gateway as a process: `python -m month1_caching_gateway.gateway_process ROUTES`.

The data plane listens on `port`; probes and metrics on `admin_port`, so that nobody outside reaches
them through the front door.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import yaml
from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway.gateway import Gateway, GatewaySettings, create_admin, load_config
from month1_caching_gateway.ratelimit import Limiter, RedisStore
from scalelab.clients.redis import connect
from scalelab.clock import SystemClock
from scalelab.security import HttpJwks, TokenVerifier, http_fetch
from scalelab.telemetry import TelemetrySettings, build_telemetry
from scalelab.web import install_stop_signals, serve


class GatewayProcessSettings(BaseSettings):
    """Environment variables GATEWAY_… ."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    admin_host: str = "127.0.0.1"
    admin_port: int
    redis_url: str
    jwks_url: str
    token_issuer: str
    token_audience: str
    log_level: str = "info"


async def run_gateway(
    settings: GatewayProcessSettings, document: dict[str, object], stop: asyncio.Event
) -> None:
    """Listen until `stop` is set, then drain. Raises InvalidInput, Unavailable (a taken port)."""
    clock = SystemClock()
    config = load_config(document)
    telemetry = build_telemetry(TelemetrySettings("gateway", log_level=settings.log_level))
    redis = connect(settings.redis_url, client_name="gateway")
    gateway = Gateway(
        GatewaySettings(),
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
        admin = create_admin(gateway, telemetry)
        await serve(admin, host=settings.admin_host, port=settings.admin_port, stop=stop)
    finally:
        await gateway.stop()
        await redis.aclose()
        telemetry.shutdown()


async def _main(document: dict[str, object]) -> None:
    stop = asyncio.Event()
    install_stop_signals(stop)
    settings = cast(Callable[[], GatewayProcessSettings], GatewayProcessSettings)()
    await run_gateway(settings, document, stop)


if __name__ == "__main__":
    asyncio.run(_main(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))))
