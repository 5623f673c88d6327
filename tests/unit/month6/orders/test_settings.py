"""The orders processes understand what the shop's topology tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from month2_databases.sharding import parse_shards
from month6_capstone.orders.service import OrdersSettings
from month6_capstone.orders.shards import read_token_keys
from month6_capstone.orders.worker import OrdersWorkerSettings
from month6_capstone.topology import PORTS, Addresses, Shard, environment
from scalelab.errors import CorruptData


def addresses(secrets: Path) -> Addresses:
    shards = tuple(
        Shard(f"shard-{n}", f"postgresql:///s{n}", f"postgresql:///a{n}", f"r-{n}", "postgresql://")
        for n in range(2)
    )
    return Addresses(
        ports=PORTS,
        hosts={},
        dsns={"shardmap": "postgresql:///map"},
        shards=shards,
        redis_url="redis://127.0.0.1",
        kafka_bootstrap="127.0.0.1:9092",
        secrets=secrets,
        book_path=secrets / "book",
    )


def test_the_topology_says_all_that_the_processes_must_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No field is missing in the environment of either process."""
    for process in ("orders", "orders-worker"):
        for name, value in environment(process, addresses(tmp_path)).items():
            monkeypatch.setenv(name, value)
    service = OrdersSettings()  # pyright: ignore[reportCallIssue] - from the environment
    worker = OrdersWorkerSettings()  # pyright: ignore[reportCallIssue] - from the environment
    assert service.port == PORTS["orders"]
    assert [shard.name for shard in parse_shards(service.shards)] == ["shard-0", "shard-1"]
    assert worker.shards == service.shards
    assert worker.map_dsn == service.map_dsn == "postgresql:///map"
    assert worker.admin_dsns == {"shard-0": "postgresql:///a0", "shard-1": "postgresql:///a1"}
    assert worker.payment_time_limit_s == service.payment_time_limit_s


def test_the_secrets_of_tokens_stand_one_a_line(tmp_path: Path) -> None:
    """The first signs, all verify; an empty file is an error that names it."""
    file = tmp_path / "consistency"
    file.write_text("new-secret-of-16-bytes\n\nold-secret-of-16-bytes\n")
    assert read_token_keys(file) == (b"new-secret-of-16-bytes", b"old-secret-of-16-bytes")
    file.write_text("\n")
    with pytest.raises(CorruptData, match="consistency"):
        read_token_keys(file)
