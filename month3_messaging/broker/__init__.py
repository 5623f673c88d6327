"""What travels over the broker, and the interface to one: envelope, messages, promises.

The adapters are doors of their own (`broker.kafka`, `broker.rabbitmq`, `broker.sqs`): nobody loads
a client library by asking for an event.
"""

from month3_messaging.broker.envelope import (
    VALUE_BYTES_MAX,
    Event,
    from_wire,
    to_headers,
    to_value,
)
from month3_messaging.broker.messages import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Delivery,
    Message,
    Topic,
    dead_letters_of,
)
from month3_messaging.broker.protocol import Broker, Subscription

__all__ = [
    "ORIGIN_HEADER",
    "REASON_HEADER",
    "VALUE_BYTES_MAX",
    "Broker",
    "Delivery",
    "Event",
    "Message",
    "Subscription",
    "Topic",
    "dead_letters_of",
    "from_wire",
    "to_headers",
    "to_value",
]
