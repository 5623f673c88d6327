"""The table of processes: what each is told is what its settings read."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from month6_capstone.gateway.service import GatewayProcessSettings
from month6_capstone.processes import PROCESSES
from month6_capstone.topology import (
    CONSUMERS,
    DATABASES,
    PORTS,
    SERVICES,
    TOPICS,
    Addresses,
    Shard,
    all_topics,
    environment,
)

AT = Addresses(
    ports=PORTS,
    hosts={},
    dsns=dict.fromkeys(DATABASES, "postgresql://x"),
    shards=(Shard("shard-0", "postgresql://p", "postgresql://a", "r", "postgresql://r"),),
    redis_url="redis://127.0.0.1:1/0",
    kafka_bootstrap="127.0.0.1:2",
    secrets=Path("/secrets"),
    book_path=Path("/book.jsonl"),
    trace_export="file:/traces/{process}.jsonl",
)


def _settings(name: str) -> type[BaseSettings]:
    if name == "gateway":
        return GatewayProcessSettings
    process = PROCESSES[name]
    return getattr(importlib.import_module(process.module), process.settings)


@pytest.mark.parametrize("name", [*SERVICES, "gateway"])
def test_a_process_is_told_exactly_what_its_settings_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Valid settings, no variable that nobody reads, and its own trace file."""
    settings = _settings(name)
    prefix = settings.model_config.get("env_prefix", "")
    for key, value in environment(name, AT).items():
        monkeypatch.setenv(key, value)
        assert key.startswith(prefix)
        assert key.removeprefix(prefix).lower() in settings.model_fields, key
    read = settings().model_dump()
    assert read["port"] == PORTS[name]
    assert read["trace_export"] == f"file:/traces/{name}.jsonl"


def test_prefixes_keep_processes_apart() -> None:
    """The monolith reads all variables from one environment: no name may serve two processes."""
    seen: set[str] = set()
    for name in (*SERVICES, "gateway"):
        mine = set(environment(name, AT))
        assert not seen & mine
        seen |= mine


def test_default_ports_are_distinct() -> None:
    """Two processes on one port would start only on a machine where the other is gone."""
    assert len(set(PORTS.values())) == len(PORTS)


def test_every_consumer_has_its_retry_and_dead_letter_topics() -> None:
    """A consumer that cannot park a message would stand still."""
    topics = all_topics()
    for group, sources in CONSUMERS.items():
        for source in sources:
            assert source in TOPICS
            for suffix in ("retry.5s", "retry.1m", "dlq"):
                assert f"{source}.{group}.{suffix}" in topics
