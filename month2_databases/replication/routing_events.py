"""What the session router tells its hooks, and those facts and the lag as metrics.

cluster_reads_total{cluster,server,role,reason}
replication_lag_bytes{cluster,replica}            log the replica lacks
replication_stale_seconds{cluster,replica}        how old its answers can be at most
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from month2_databases.replication.read_policy import ReadReason

if TYPE_CHECKING:
    from month2_databases.replication.cluster import Cluster


class ServerRole(StrEnum):
    """Which kind of server answered."""

    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class ReadRouted:
    """A read got a connection to `server`."""

    cluster: str
    server: str
    role: ServerRole
    reason: ReadReason


ReadHook = Callable[[ReadRouted], None]
"""Called synchronously on the event loop; must not block or raise."""


class ReadMetrics:
    """A hook that counts. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reads = Counter(
            "cluster_reads",
            "Reads by the server that answered and why.",
            ["cluster", "server", "role", "reason"],
            registry=registry,
        )

    def __call__(self, event: ReadRouted) -> None:
        self._reads.labels(event.cluster, event.server, event.role.value, event.reason.value).inc()


class LagMetrics(Collector):
    """The lag of a cluster's replicas, told when it is asked for; one per cluster and registry.

    A replica that does not answer has no lag in bytes, and an age of +Inf.
    """

    def __init__(self, registry: CollectorRegistry, cluster: Cluster) -> None:
        self._cluster = cluster
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The families without samples."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families with a sample for each replica."""
        lag, stale = self._families()
        for view in self._cluster.views():
            labels = [self._cluster.name, view.name]
            behind = self._cluster.lag_bytes(view.name)
            if behind is not None:
                lag.add_metric(labels, behind)
            stale.add_metric(labels, math.inf if view.position is None else view.stale_s)
        yield lag
        yield stale

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        labels = ["cluster", "replica"]
        return (
            GaugeMetricFamily("replication_lag_bytes", "Log the replica lacks.", labels=labels),
            GaugeMetricFamily(
                "replication_stale_seconds", "Age of its answers at most.", labels=labels
            ),
        )
