"""What the router tells its hooks, and those facts as metrics on a registry that is passed in.

shard_reads_total{shard,server,role,reason}    shard_writes_total{shard,result}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter


class Role(StrEnum):
    """Which kind of server answered a read."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Reason(StrEnum):
    """Why a read went where it went."""

    CAUGHT_UP = "caught_up"
    ANY_WILL_DO = "any_will_do"
    BEHIND = "behind"
    NO_REPLICA = "no_replica"
    TOKEN_REFUSED = "token_refused"
    ASKED_FOR = "asked_for"


@dataclass(frozen=True, slots=True)
class ReadRouted:
    """A read got a connection to `server`."""

    shard: str
    server: str
    role: Role
    reason: Reason


@dataclass(frozen=True, slots=True)
class WriteEnded:
    """A transaction on a primary is over. result: "ok" or the stable code of its error."""

    shard: str
    result: str


RouterEvent = ReadRouted | WriteEnded
RouterHook = Callable[[RouterEvent], None]
"""Called synchronously on the event loop; must not block or raise."""


class RouterMetrics:
    """A hook that counts. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reads = Counter(
            "shard_reads",
            "Reads by the server that answered and why.",
            ["shard", "server", "role", "reason"],
            registry=registry,
        )
        self._writes = Counter(
            "shard_writes", "Transactions by result.", ["shard", "result"], registry=registry
        )

    def __call__(self, event: RouterEvent) -> None:
        match event:
            case ReadRouted():
                self._reads.labels(
                    event.shard, event.server, event.role.value, event.reason.value
                ).inc()
            case WriteEnded():
                self._writes.labels(event.shard, event.result).inc()
