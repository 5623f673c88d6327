"""Transactional outbox: events leave a service if and only if its transaction committed.

`append` writes in the business transaction; a `Relay` per database carries the rows to Kafka.
"""

from month3_messaging.outbox.metrics import RelayMetrics
from month3_messaging.outbox.relay import Relay, RelaySettings, keep_relaying
from month3_messaging.outbox.table import (
    APPEND,
    CHANNEL,
    DDL,
    append,
    count_unsent,
    purge_sent,
    to_append,
)

__all__ = [
    "APPEND",
    "CHANNEL",
    "DDL",
    "Relay",
    "RelayMetrics",
    "RelaySettings",
    "append",
    "count_unsent",
    "keep_relaying",
    "purge_sent",
    "to_append",
]
