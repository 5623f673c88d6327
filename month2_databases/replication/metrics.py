"""The sync guard's mode as a metric: shard_degraded{shard}, 1 while commits wait for no replica."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from month2_databases.replication.sync_guard import Mode
from month2_databases.replication.sync_guard_postgres import SyncModeChanged


class SyncMetrics:
    """A hook of any number of sync guards. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._degraded = Gauge(
            "shard_degraded",
            "1 while commits of this shard wait for no replica.",
            ["shard"],
            registry=registry,
        )

    def __call__(self, event: SyncModeChanged) -> None:
        self._degraded.labels(event.shard).set(event.mode is Mode.DEGRADED)
