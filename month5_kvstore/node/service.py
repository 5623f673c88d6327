"""The node as a process: settings from KVNODE_… variables, wiring, and an end when it cannot go on.

`prepare` makes the folder of a new node, once and on purpose: a node that finds none must not make
one by itself, for it may have lost its votes with the old one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import Gauge
from pydantic_settings import BaseSettings, SettingsConfigDict

from month5_kvstore.etcd_api import Member, gateway_router, serving_etcd
from month5_kvstore.log import Identity, PosixDisk, initialise
from month5_kvstore.node.api import data_router
from month5_kvstore.node.node import Node, NodeConfig
from month5_kvstore.raft import Settings
from scalelab.clock import SystemClock
from scalelab.errors import Conflict, InvalidInput, Unavailable
from scalelab.telemetry import Log, Telemetry
from scalelab.web.app import create_app
from scalelab.web.limits import Limits

FATAL_EXIT = 3
_BODY_BYTES_MAX = 4 << 20


class NodeSettings(BaseSettings):
    """Environment variables KVNODE_….

    folder: of the log. peers: `1=127.0.0.1:7001,2=…`, all nodes, this one too; where they hear each
    other. tick_ms: the election time-out is drawn from election_ticks to twice as many of them.
    etcd_clients: `1=http://127.0.0.1:8501,2=…`, where etcd's clients find each node; or nothing.
    etcd_port: where this node serves them over gRPC and JSON; 0: JSON alone, beside its own API.
    """

    model_config = SettingsConfigDict(env_prefix="KVNODE_", frozen=True)

    host: str = "127.0.0.1"
    port: int
    cluster_id: str = "scalelab"
    node_id: int
    folder: Path
    peers: str
    tick_ms: int = 50
    election_ticks: int = 10
    heartbeat_ticks: int = 2
    snapshot_entries: int = 10_000
    history: int = 10_000
    segment_bytes: int = 64 << 20
    etcd_clients: str = ""
    etcd_port: int = 0
    trace_export: str = "none"
    log_level: str = "info"


def config_of(settings: NodeSettings) -> NodeConfig:
    """Raises InvalidInput for peers that cannot be read."""
    peers: dict[int, tuple[str, int]] = {}
    for part in settings.peers.split(","):
        try:
            node, _, at = part.partition("=")
            host, _, port = at.rpartition(":")
            peers[int(node)] = (host, int(port))
        except ValueError as error:
            raise InvalidInput(f"{part!r} is not ID=HOST:PORT", field="peers") from error
    return NodeConfig(
        settings.cluster_id,
        settings.node_id,
        settings.folder,
        peers,
        tick_ms=settings.tick_ms,
        snapshot_entries=settings.snapshot_entries,
        history=settings.history,
        segment_bytes=settings.segment_bytes,
        raft=Settings(
            election_ticks=settings.election_ticks, heartbeat_ticks=settings.heartbeat_ticks
        ),
    )


def etcd_clients_of(settings: NodeSettings) -> dict[int, tuple[str, ...]]:
    """Node to addresses. Raises InvalidInput for what cannot be read."""
    found: dict[int, tuple[str, ...]] = {}
    for part in filter(None, settings.etcd_clients.split(",")):
        node, _, url = part.partition("=")
        if not node.isdigit() or not url.startswith("http"):
            raise InvalidInput(f"{part!r} is not ID=URL", field="etcd_clients")
        found[int(node)] = (*found.get(int(node), ()), url)
    return found


def prepare(settings: NodeSettings) -> None:
    """Make the folder of a new node. One that is there already stays as it is."""
    settings.folder.parent.mkdir(parents=True, exist_ok=True)
    identity = Identity(settings.cluster_id, settings.node_id, secrets.token_hex(16))
    with contextlib.suppress(Conflict):
        initialise(PosixDisk(settings.folder), identity)


def create(settings: NodeSettings, telemetry: Telemetry) -> FastAPI:
    """The app; its lifespan is the node's."""
    running: list[Member] = []
    config, clients = config_of(settings), etcd_clients_of(settings)

    def member_of() -> Member:
        if not running:
            raise Unavailable("the node is not running")
        return running[0]

    def node_of() -> Node:
        return member_of().node

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        async with Node.open(
            config, clock=SystemClock(), log=telemetry.log, on_fatal=_end_with(telemetry.log)
        ) as node:
            member = Member(node, clients)
            running.append(member)
            try:
                async with _etcd_doors(settings, member):
                    yield
            finally:
                running.clear()

    measure = _gauges(telemetry, node_of)
    routers = [data_router(node_of), _admin_router(node_of)]
    if clients:
        routers.append(gateway_router(member_of))
    return create_app(
        telemetry=telemetry,
        routers=routers,
        lifespan=lifespan,
        limits=Limits(body_bytes=_BODY_BYTES_MAX),
        title="key-value store",
        before_scrape=measure,
    )


def _etcd_doors(settings: NodeSettings, member: Member) -> AbstractAsyncContextManager[None]:
    if not settings.etcd_port:
        return nullcontext()
    return serving_etcd(
        member, host=settings.host, port=settings.etcd_port, http=(settings.host, settings.port)
    )


def status_of(node: Node) -> dict[str, Any]:
    """What this node knows of itself and its groups."""
    return {
        "node": node.config.node_id,
        "cluster": node.config.cluster_id,
        "connected": node.links.connected,
        "groups": [
            {
                "group": one.group,
                "role": one.raft.role,
                "term": one.raft.term,
                "leader": one.raft.leader,
                "committed": one.raft.committed,
                "applied": one.applied,
                "last_index": one.raft.last_index,
                "revision": one.store.revision,
                "compacted": one.store.compacted,
                "keys": one.store.keys.count,
                "size_bytes": one.store.size_bytes,
                "alarm": one.store.alarm,
                "disk_full": one.disk_full,
                "silence_ms": int(one.silence_s * 1000),
            }
            for one in node.groups
        ],
    }


def _admin_router(node_of: Callable[[], Node]) -> APIRouter:
    router = APIRouter()

    @router.get("/status")
    async def status() -> dict[str, Any]:
        """Terms, leaders, logs and sizes of all groups, as this node sees them."""
        return status_of(node_of())

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers. Whether groups have leaders stands in /status."""
        node_of()
        return {"status": "ok"}

    return router


def _gauges(telemetry: Telemetry, node_of: Callable[[], Node]) -> Callable[[], Any]:
    def gauge(name: str, text: str) -> Gauge:
        return Gauge(f"kv_{name}", text, ["group"], registry=telemetry.registry)

    term = gauge("term", "Latest term heard of.")
    leads = gauge("leads", "1 where this node leads.")
    applied = gauge("applied_index", "Entries applied.")
    lag = gauge("apply_lag", "Entries committed and not applied.")
    size = gauge("size_bytes", "Bytes that count against the quota.")

    async def measure() -> None:
        for one in node_of().groups:
            name = str(one.group)
            term.labels(name).set(one.raft.term)
            leads.labels(name).set(one.leads)
            applied.labels(name).set(one.applied)
            lag.labels(name).set(one.raft.committed - one.applied)
            size.labels(name).set(one.store.size_bytes)

    return measure


def _end_with(log: Log) -> Callable[[BaseException], None]:
    """What is in memory cannot be trusted any more, or not be kept: end at once, as by kill -9."""

    def end(error: BaseException) -> None:
        log.error("the node cannot go on", error=repr(error))
        sys.stderr.flush()
        os._exit(FATAL_EXIT)

    return end
