"""What a gateway process must be told: GATEWAY_… variables, or options of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month1_caching_gateway.gateway.settings import GatewaySettings

Port = Annotated[int, Field(ge=0, le=65535)]


class ProcessSettings(BaseSettings):
    """Read from GATEWAY_… variables.

    config: the route file. port, admin_port: 0 takes a free one. workers: processes on `port`.
    jwks_url, token_issuer, token_audience: whose tokens are believed; without them no route may
    demand a user. redis_url: where allowances are counted; without it each process counts its own.
    key_file: of API keys (key_file.py), read again when it changes; its owner's alone.
    allowed_hosts: names accepted in Host, separated by commas; empty accepts any. poll_s: how often
    the route file is looked at. drain_s, drain_idle_s: how long a stop waits for what runs, and
    when it closes a connection that brings nothing; see GatewaySettings.
    """

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True)

    config: Path
    host: str = "127.0.0.1"
    port: Port = 8080
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8081
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    jwks_url: str = ""
    token_issuer: str = ""
    token_audience: str = ""
    redis_url: str = ""
    key_file: Path | None = None
    allowed_hosts: str = "127.0.0.1,localhost,[::1]"
    trusted_proxies: str = ""
    drain_s: Annotated[float, Field(ge=0)] = 10.0
    drain_idle_s: Annotated[float, Field(ge=0)] = 0.5
    poll_s: Annotated[float, Field(gt=0)] = 0.5
    request_log: bool = True
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    trace_export: str = "none"
    log_level: str = "info"

    def gateway_settings(self) -> GatewaySettings:
        """The part that the data plane works with."""
        return GatewaySettings(
            allowed_hosts=names(self.allowed_hosts),
            trusted_proxies=names(self.trusted_proxies),
            drain_s=self.drain_s,
            drain_idle_s=self.drain_idle_s,
            trace_ratio=self.trace_ratio,
        )


def names(listed: str) -> frozenset[str]:
    """`a, b` as a set."""
    return frozenset(name for one in listed.split(",") if (name := one.strip()))
