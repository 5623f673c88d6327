"""What travels over the broker: the event envelope and its wire form on Kafka."""

from month3_messaging.broker.envelope import (
    VALUE_BYTES_MAX,
    Event,
    from_wire,
    to_headers,
    to_value,
)

__all__ = ["VALUE_BYTES_MAX", "Event", "from_wire", "to_headers", "to_value"]
