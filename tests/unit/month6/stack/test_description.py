"""What a running shop writes down about itself is what `verify` reads."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from month3_messaging.orders import MOVING_TABLES
from month6_capstone.stack import description_path, mover_settings, write_description
from month6_capstone.topology import PORTS, Addresses, Shard
from month6_capstone.truth import read_description
from scalelab.errors import InvalidInput

AT = Addresses(
    ports=PORTS,
    hosts={},
    dsns={
        "payments": "postgresql://pay",
        "inventory": "postgresql://stock",
        "shardmap": "postgresql://map",
    },
    shards=(
        Shard("shard-0", "postgresql://0", "postgresql://admin", "r0", "postgresql://r0"),
        Shard("shard-1", "postgresql://1", "postgresql://admin", "r1", "postgresql://r1"),
    ),
    redis_url="redis://127.0.0.1:1/0",
    kafka_bootstrap="127.0.0.1:2",
    secrets=Path("/secrets"),
    book_path=Path("/provider/book.jsonl"),
)


def test_verify_finds_the_stores_that_the_shop_named(tmp_path: Path) -> None:
    """The primaries of all shards, both databases with books, the broker and the provider's book;
    never a replica, which may be behind."""
    write_description(tmp_path, AT)
    settings = read_description(description_path(tmp_path), client_log=tmp_path / "client.jsonl")
    assert settings.shards == {"shard-0": "postgresql://0", "shard-1": "postgresql://1"}
    assert (settings.payments, settings.inventory) == ("postgresql://pay", "postgresql://stock")
    assert settings.kafka_bootstrap == "127.0.0.1:2"
    assert settings.book_path == Path("/provider/book.jsonl")
    assert settings.client_log == tmp_path / "client.jsonl"


def test_whoever_moves_slots_finds_the_map_and_the_owners(tmp_path: Path) -> None:
    """An order's rows in every table that belongs to it, and the outbox that has to be empty."""
    write_description(tmp_path, AT)
    settings = mover_settings(tmp_path)
    assert settings.maps == "postgresql://map"
    owners = {name: conninfo_to_dict(dsn) for name, dsn in settings.shards.items()}
    assert {name: one["dbname"] for name, one in owners.items()} == dict.fromkeys(
        ("shard-0", "shard-1"), "orders"
    )
    assert [table.name for table in settings.moved_tables] == list(MOVING_TABLES)
    assert [table.name for table in settings.emptied_tables] == ["outbox"]


def test_only_the_owner_reads_the_description(tmp_path: Path) -> None:
    """It holds the databases' passwords; a second one replaces the first, whole."""
    write_description(tmp_path, AT)
    write_description(tmp_path, replace(AT, shards=AT.shards[:1]))
    path = description_path(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(read_description(path).shards) == ["shard-0"]


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"shards": {}}', "\xff"])
def test_what_is_no_description_is_named(tmp_path: Path, text: str | None) -> None:
    """A folder in which no shop ran, or a file cut short: the message says which file."""
    path = description_path(tmp_path)
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidInput, match=path.name):
        read_description(path)
