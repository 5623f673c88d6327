"""Which processes the month's stack has, and what each must be told. Pure: addresses in, text out.

The same table serves the native stack and the container file, so a process never learns a new
setting in one place only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SHARDS = ("shard-0", "shard-1")
"""The shards that the 256 slots are split over when the stack is new."""

SPARE = "shard-2"
"""A server with the schema and no slots: where `reshard` can move some."""

PRIMARIES = (*SHARDS, SPARE)
"""Every server that takes writes."""

PORTS: Mapping[str, int] = {
    "orderbook": 8201,
    "shard-0": 5440,
    "shard-0-r1": 5441,
    "shard-0-r2": 5442,
    "shard-1": 5443,
    "shard-1-r1": 5444,
    "shard-2": 5446,
}
"""The fixed default port of everything `lab up month2` starts; a taken one is replaced."""

REPLICAS: Mapping[str, tuple[str, ...]] = {
    "shard-0": ("shard-0-r1", "shard-0-r2"),
    "shard-1": ("shard-1-r1",),
    SPARE: (),
}
"""The streaming replicas of each primary."""

DATABASE = ROLE = "orders"

MAP_KEEPER = "shard-0"
MAP_DATABASE = MAP_ROLE = "shardmap"
"""Where the shard map is kept. Every router has the last one it heard, so this server's death
stops moves, not orders of other shards."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is. dsns: of the orders database, by server name (primaries, replicas).
    map_dsn: of the map's database. token_key_file: the secret of the consistency tokens."""

    ports: Mapping[str, int]
    hosts: Mapping[str, str]
    dsns: Mapping[str, str]
    map_dsn: str
    token_key_file: Path
    bind_host: str = "127.0.0.1"
    log_level: str = "info"

    def url(self, process: str) -> str:
        """The base URL of a process."""
        return f"http://{self.hosts.get(process, '127.0.0.1')}:{self.ports[process]}"


def shards_json(at: Addresses) -> str:
    """The shards with their replicas, as `sharding.parse_shards` reads them."""
    return json.dumps(
        [
            {
                "name": name,
                "primary": at.dsns[name],
                "replicas": [{"name": one, "dsn": at.dsns[one]} for one in REPLICAS[name]],
            }
            for name in PRIMARIES
        ]
    )


def environment(at: Addresses) -> dict[str, str]:
    """The environment of the order book (see `orderbook.service.OrderBookSettings`)."""
    return {
        "ORDERBOOK_HOST": at.bind_host,
        "ORDERBOOK_PORT": str(at.ports["orderbook"]),
        "ORDERBOOK_LOG_LEVEL": at.log_level,
        "ORDERBOOK_SHARDS": shards_json(at),
        "ORDERBOOK_MAP_DSN": at.map_dsn,
        "ORDERBOOK_SERVING": ",".join(SHARDS),
        "ORDERBOOK_TOKEN_KEY_FILE": str(at.token_key_file),
    }
