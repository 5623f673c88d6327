"""What both use cases work with, wired once and passed down."""

from __future__ import annotations

from dataclasses import dataclass

from month6_capstone.payments.provider_client import ProviderClient
from scalelab.clients.postgres import Database
from scalelab.clock import Clock

CONSUMER = "payments"
"""The consumer group, and the name under which the inbox remembers events."""

TOPIC = "payments.payment"
"""Where payments says what became of an order's money."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The stores and names of the payments service.

    recheck_s: seconds after which a tombstone is checked against the provider once more.
    """

    database: Database
    provider: ProviderClient
    clock: Clock
    consumer: str = CONSUMER
    topic: str = TOPIC
    recheck_s: float = 120.0
