"""What a relay tells Prometheus. One set per registry, shared by the relays of a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LAG_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)


class RelayMetrics:
    """Metrics of the outbox, labelled by the database's name (a handful of values)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter(
            "scalelab_outbox_sent",
            "Events acknowledged by the broker and marked.",
            ["database"],
            registry=registry,
        )
        self.failed = Counter(
            "scalelab_outbox_send_failures",
            "Sends that failed or whose outcome is unknown; the rows stay unsent.",
            ["database"],
            registry=registry,
        )
        self.lag = Histogram(
            "scalelab_outbox_lag_seconds",
            "From the start of the appending transaction to the mark.",
            ["database"],
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        )
        self.unsent = Gauge(
            "scalelab_outbox_unsent_rows",
            "Rows that wait to be sent, as of the last count.",
            ["database"],
            registry=registry,
        )
        self.leading = Gauge(
            "scalelab_outbox_relay_active",
            "1 while this process is the active relay of the database.",
            ["database"],
            registry=registry,
        )


class SlotMetrics:
    """Metrics of relays that follow the log, labelled by the database's name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.following = Gauge(
            "scalelab_outbox_following_log",
            "1 while this process reads events off the database's log, 0 while it polls.",
            ["database"],
            registry=registry,
        )
        self.kept = Gauge(
            "scalelab_outbox_slot_kept_bytes",
            "Log that the server keeps for the relay's slot.",
            ["database"],
            registry=registry,
        )
        self.age = Gauge(
            "scalelab_outbox_slot_age_seconds",
            "Since a relay last confirmed to the slot.",
            ["database"],
            registry=registry,
        )
        self.lost = Counter(
            "scalelab_outbox_slots_lost",
            "Slots that were gone or given up; the table was read instead.",
            ["database"],
            registry=registry,
        )
