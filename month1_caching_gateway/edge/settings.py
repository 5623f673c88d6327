"""What an edge point and an origin are told: limits, caches, upstreams. Frozen, safe defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from scalelab.errors import InvalidInput

Balance = Literal["round_robin", "least_conn", "consistent_hash"]


@dataclass(frozen=True, slots=True)
class Servers:
    """The processes behind one name. balance: who gets the next request.

    addresses: `host:port` each. max_fails in fail_timeout_s take a process out for fail_timeout_s
    (passive health checks). tries: processes a request without effect may be offered to.
    consistent_hash is by request target: each process keeps its own part of what is cached.
    """

    addresses: tuple[str, ...]
    balance: Balance = "round_robin"
    max_fails: int = 2
    fail_timeout_s: int = 2
    tries: int = 2
    read_timeout_s: int = 15

    def __post_init__(self) -> None:
        if not self.addresses:
            raise InvalidInput("somebody must stand behind the edge", field="addresses")


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may take. Times in whole seconds.

    head_s: for the whole head. silence_s: between two parts of a body, and between two parts of
    the answer that a client takes. connections: of one address. header lines: at most header_kb
    each, and as many of them as fit in header_lines such buffers.
    """

    head_s: int = 10
    silence_s: int = 10
    idle_s: int = 30
    connections: int = 100
    body_kb: int = 1024
    header_kb: int = 8
    header_lines: int = 2


@dataclass(frozen=True, slots=True)
class EdgeCache:
    """How much an edge keeps. What may be kept, and how long, only the origin's headers say.

    inactive_s: what nobody asked for in this time is dropped; also how long an origin may be down
    before an answer that somebody keeps asking for is gone. generation: another number makes
    everything kept so far invisible (a purge of all, exact even for answers on their way).
    """

    memory_mb: int = 4
    disk_mb: int = 256
    inactive_s: int = 600
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Tls:
    """Texts in PEM form: the certificate with its chain, and its key. port: where TLS is spoken."""

    port: int
    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """One edge point. hosts: the names it serves; others get 421.

    plain_http: what the port without TLS does: send to the TLS port, or serve (behind a proxy that
    ends TLS, and in experiments that count bytes).
    """

    name: str
    hosts: tuple[str, ...]
    origin: Servers
    tls: Tls | None = None
    plain_http: Literal["redirect", "serve"] = "serve"
    limits: ClientLimits = ClientLimits()
    cache: EdgeCache = EdgeCache()

    def __post_init__(self) -> None:
        if self.plain_http == "redirect" and self.tls is None:
            raise InvalidInput("a redirect needs a TLS port to lead to", field="plain_http")


@dataclass(frozen=True, slots=True)
class OriginSettings:
    """What stands behind the edges: built pages on disk, and the API's processes.

    site: absolute path of a folder built by `assets.build`, readable by nginx's account.
    """

    hosts: tuple[str, ...]
    site: str
    api: Servers
    body_kb: int = 1024
