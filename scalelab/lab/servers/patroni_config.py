"""What one Patroni is told, as the text of its configuration file (JSON, which is YAML too)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scalelab.errors import InvalidInput
from scalelab.lab.servers.postgres_config import DEFAULTS

_OURS = {"listen_addresses", "hot_standby", "wal_log_hints", "max_wal_senders", "log_line_prefix"}


@dataclass(frozen=True, slots=True)
class PatroniSettings:
    """What a cluster agrees on.

    ttl_s: life of the leader's lease, >= 20. loop_wait_s: between two looks. retry_timeout_s: how
    long etcd or PostgreSQL may fail before the leader gives up; loop_wait + 2 * retry_timeout must
    fit into ttl. maximum_lag_bytes: a replica further behind is not promoted (asynchronous mode).
    primary_start_timeout_s: how long a crashed primary may take to come back in place; 0: none.
    postgres: further lines of postgresql.conf.
    """

    ttl_s: int = 20
    loop_wait_s: int = 2
    retry_timeout_s: int = 5
    maximum_lag_bytes: int = 1 << 20
    synchronous: bool = False
    primary_start_timeout_s: int = 300
    postgres: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if self.ttl_s < 20 or self.loop_wait_s < 1 or self.retry_timeout_s < 3:
            raise InvalidInput(f"Patroni refuses times as short as {self}", field="ttl_s")
        if self.loop_wait_s + 2 * self.retry_timeout_s > self.ttl_s:
            raise InvalidInput(
                f"a lease of {self.ttl_s} s would run out within loop_wait + 2 * retry_timeout",
                field="ttl_s",
            )

    def shared(self) -> dict[str, Any]:
        """The part that stands in etcd, for all nodes."""
        return {
            "ttl": self.ttl_s,
            "loop_wait": self.loop_wait_s,
            "retry_timeout": self.retry_timeout_s,
            "maximum_lag_on_failover": self.maximum_lag_bytes,
            "primary_start_timeout": self.primary_start_timeout_s,
            "synchronous_mode": self.synchronous,
            "postgresql": {
                "use_pg_rewind": True,
                "use_slots": True,
                "parameters": {**parameters(), **self.postgres},
            },
        }


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Where one node stands. words: passwords by role. callback: told of changes of its role."""

    scope: str
    name: str
    port: int
    rest_port: int
    etcd: str
    data: str
    sockets: str
    bin: str
    passfile: str
    callback: str
    words: Mapping[str, str]
    tags: Mapping[str, bool | int]


def parameters() -> dict[str, str]:
    """The laboratory's settings of PostgreSQL, without those that Patroni keeps to itself."""
    return {name: value for name, value in DEFAULTS.items() if name not in _OURS}


def render(place: NodePlace, settings: PatroniSettings) -> str:
    """The configuration file of one node."""
    return json.dumps(
        {
            "scope": place.scope,
            "name": place.name,
            "restapi": {
                "listen": f"127.0.0.1:{place.rest_port}",
                "connect_address": f"127.0.0.1:{place.rest_port}",
                "authentication": {"username": "patroni", "password": place.words["rest"]},
            },
            "ctl": {"authentication": {"username": "patroni", "password": place.words["rest"]}},
            "etcd3": {"host": place.etcd},
            "bootstrap": {
                "dcs": settings.shared(),
                "initdb": [
                    {"encoding": "UTF8"},
                    {"locale": "C"},
                    {"auth": "scram-sha-256"},
                    "data-checksums",
                    "no-sync",
                ],
            },
            "postgresql": _postgresql(place),
            "watchdog": {"mode": "off"},
            "tags": dict(place.tags),
        },
        indent=1,
    )


def _postgresql(place: NodePlace) -> dict[str, Any]:
    roles = {"superuser": "postgres", "replication": "replicator", "rewind": "rewinder"}
    return {
        "listen": f"127.0.0.1:{place.port}",
        "connect_address": f"127.0.0.1:{place.port}",
        "data_dir": place.data,
        "bin_dir": place.bin,
        "pgpass": place.passfile,
        "authentication": {
            part: {"username": role, "password": place.words[role]} for part, role in roles.items()
        },
        "parameters": {"unix_socket_directories": place.sockets},
        "pg_hba": [
            "local all all scram-sha-256",
            "host all all 127.0.0.1/32 scram-sha-256",
            "host replication all 127.0.0.1/32 scram-sha-256",
        ],
        "basebackup": [{"checkpoint": "fast"}, "no-sync"],
        "callbacks": {"on_role_change": f"/bin/sh {place.callback}"},
        "remove_data_directory_on_diverged_timelines": False,
    }
