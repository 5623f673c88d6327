"""Event consumers: ordered handling, in-place waits, batches, retry topics and dead letters."""

from month3_messaging.workers.batches import BatchHandler
from month3_messaging.workers.consumer import ConsumerSettings, EventConsumer
from month3_messaging.workers.effect_once import Effect, EffectOnce
from month3_messaging.workers.failure_policy import (
    ATTEMPT,
    BOOKKEEPING,
    DUE_MS,
    ERROR_CODE,
    ERROR_MESSAGE,
    ERROR_STACK,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    OnFailure,
    dead_letter_topic,
    retry_topic,
    topics_of,
)
from month3_messaging.workers.handling import Handler
from month3_messaging.workers.ladder import DEFAULT_LADDER, TRIES_MAX, RetryStep, ladder_of
from month3_messaging.workers.metrics import ConsumerMetrics

__all__ = [
    "ATTEMPT",
    "BOOKKEEPING",
    "DEFAULT_LADDER",
    "DUE_MS",
    "ERROR_CODE",
    "ERROR_MESSAGE",
    "ERROR_STACK",
    "ORIGIN_OFFSET",
    "ORIGIN_PARTITION",
    "ORIGIN_TOPIC",
    "TRIES_MAX",
    "BatchHandler",
    "ConsumerMetrics",
    "ConsumerSettings",
    "Effect",
    "EffectOnce",
    "EventConsumer",
    "Handler",
    "OnFailure",
    "RetryStep",
    "dead_letter_topic",
    "ladder_of",
    "retry_topic",
    "topics_of",
]
