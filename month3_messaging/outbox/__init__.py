"""Transactional outbox: events leave a service if and only if its transaction committed.

`append` writes in the business transaction; a relay per database carries the rows to Kafka: by
polling the table, or by following the database's log (`FollowLog`).
"""

from month3_messaging.outbox.keeping import FollowLog, keep_relaying
from month3_messaging.outbox.log_relay import LogRelay, LogRelaySettings
from month3_messaging.outbox.metrics import RelayMetrics, SlotMetrics
from month3_messaging.outbox.relay import Relay, RelaySettings
from month3_messaging.outbox.slot import SlotAlert, SlotLimits, SlotState, SlotTrouble, judge
from month3_messaging.outbox.slot_postgres import SlotPlace, drop_slot, look_at_slot
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
    "FollowLog",
    "LogRelay",
    "LogRelaySettings",
    "Relay",
    "RelayMetrics",
    "RelaySettings",
    "SlotAlert",
    "SlotLimits",
    "SlotMetrics",
    "SlotPlace",
    "SlotState",
    "SlotTrouble",
    "append",
    "count_unsent",
    "drop_slot",
    "judge",
    "keep_relaying",
    "look_at_slot",
    "purge_sent",
    "to_append",
]
