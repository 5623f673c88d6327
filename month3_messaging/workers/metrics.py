"""What a consumer tells Prometheus. One set per registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LAG_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)


class ConsumerMetrics:
    """Metrics of event consumers, labelled by group and, where bounded, by event type or topic."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "scalelab_consumer_handled",
            "Events whose handler returned.",
            ["group", "type"],
            registry=registry,
        )
        self.batches, self.apart = _of_batches(registry)
        self.skipped = Counter(
            "scalelab_consumer_skipped",
            "Events of a type nobody here handles.",
            ["group"],
            registry=registry,
        )
        self.again = Counter(
            "scalelab_consumer_in_place_retries",
            "Attempts repeated in place because a dependency was down.",
            ["group"],
            registry=registry,
        )
        self.held_keys = Gauge(
            "scalelab_consumer_held_keys",
            "Keys that wait here for the next try of their first event.",
            ["group"],
            registry=registry,
        )
        self.retried = Counter(
            "scalelab_consumer_retried",
            "Events moved to a retry topic.",
            ["group", "topic"],
            registry=registry,
        )
        self.dead = Counter(
            "scalelab_consumer_dead_letters",
            "Events moved to a dead-letter topic.",
            ["group", "topic"],
            registry=registry,
        )
        self.lag = Histogram(
            "scalelab_consumer_lag_seconds",
            "From the time in the event to the end of its handling.",
            ["group"],
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        )
        self.behind = Gauge(
            "scalelab_consumer_behind_records",
            "Records between this member's position and the end of its partitions.",
            ["group", "topic"],
            registry=registry,
        )
        self._handled: dict[tuple[str, str], tuple[Counter, Histogram]] = {}

    def count_handled(self, group: str, kind: str, lag_s: float) -> None:
        """An event of that type was handled. What carries its labels is looked up once."""
        found = self._handled.get((group, kind))
        if found is None:
            found = self.handled.labels(group, kind), self.lag.labels(group)
            self._handled[group, kind] = found
        found[0].inc()
        found[1].observe(lag_s)


def _of_batches(registry: CollectorRegistry) -> tuple[Counter, Counter]:
    together = Counter(
        "scalelab_consumer_batches",
        "Batches whose events took effect together; the events count as handled as well.",
        ["group"],
        registry=registry,
    )
    apart = Counter(
        "scalelab_consumer_batches_apart",
        "Batches that failed and were carried out one by one.",
        ["group"],
        registry=registry,
    )
    return together, apart
