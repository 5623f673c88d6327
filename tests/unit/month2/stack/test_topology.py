"""The table of processes: the order book is told what its settings read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from month2_databases.orderbook.service import OrderBookSettings
from month2_databases.sharding import parse_shards
from month2_databases.topology import (
    PORTS,
    REPLICAS,
    SHARDS,
    SPARE,
    Addresses,
    environment,
    shards_json,
)

AT = Addresses(
    ports=PORTS,
    hosts={},
    dsns={name: f"postgresql://{name}/orders" for name in PORTS},
    map_dsn="postgresql://shard-0/shardmap",
    token_key_file=Path("/secrets/token"),
)


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid settings, and no variable that nobody reads."""
    prefix = OrderBookSettings.model_config.get("env_prefix", "")
    for name, value in environment(AT).items():
        monkeypatch.setenv(name, value)
        assert name.removeprefix(prefix).lower() in OrderBookSettings.model_fields
    settings = OrderBookSettings()  # pyright: ignore[reportCallIssue] -- from the environment
    assert settings.port == PORTS["orderbook"]


def test_the_shards_come_back_whole_from_the_text() -> None:
    """Primaries with their replicas, the spare one too."""
    shards = parse_shards(shards_json(AT))
    assert [shard.name for shard in shards] == [*SHARDS, SPARE]
    assert {shard.name: tuple(one.name for one in shard.replicas) for shard in shards} == REPLICAS


def test_no_port_is_given_twice() -> None:
    """Each process has its own."""
    assert len(set(PORTS.values())) == len(PORTS)
