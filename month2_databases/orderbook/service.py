"""The order book as a process of this month's stack: settings and wiring."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from pydantic_settings import BaseSettings, SettingsConfigDict

from month2_databases.orderbook.app import OrderBookConfig, create_orderbook_app
from month2_databases.orderbook.preparing import prepare_map, prepare_shards
from month2_databases.sharding import PoolSizes, even, parse_shards
from scalelab.errors import CorruptData
from scalelab.telemetry import Telemetry


class OrderBookSettings(BaseSettings):
    """Environment variables ORDERBOOK_….

    shards: JSON as `parse_shards` reads it. map_dsn: of the database that keeps the map. serving:
    names of the shards that have the slots when the stack is new, separated by commas; all of them
    if empty. token_key_file: secrets that sign consistency tokens, one a line, the first signs.
    primary_pool, replica_pool: connections to each server.
    """

    model_config = SettingsConfigDict(env_prefix="ORDERBOOK_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    shards: str
    map_dsn: str
    serving: str = ""
    token_key_file: Path
    primary_pool: int = 8
    replica_pool: int = 8
    trace_export: str = "none"
    log_level: str = "info"


def create(settings: OrderBookSettings, telemetry: Telemetry) -> FastAPI:
    """The app over migrated shards."""
    lines = settings.token_key_file.read_text(encoding="ascii").split()
    if not lines:
        raise CorruptData(f"{settings.token_key_file} holds no secret for consistency tokens")
    config = OrderBookConfig(
        shards=parse_shards(settings.shards),
        map_dsn=settings.map_dsn,
        token_keys=[line.encode() for line in lines],
        pools=PoolSizes(primary_max=settings.primary_pool, replica_max=settings.replica_pool),
    )
    return create_orderbook_app(config, telemetry=telemetry)


async def prepare(settings: OrderBookSettings) -> None:
    """Have a map, and every shard's tables and slots. Repeatable."""
    shards = parse_shards(settings.shards)
    serving = [name for name in settings.serving.split(",") if name]
    first = even(serving or [shard.name for shard in shards])
    await prepare_shards(shards, await prepare_map(settings.map_dsn, first))
