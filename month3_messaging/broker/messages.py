"""What goes into a broker and what comes out, whichever broker it is; no library in sight."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from month3_messaging.broker.envelope import VALUE_BYTES_MAX
from scalelab.errors import InvalidInput, TooLarge

REASON_HEADER = "dead-letter-reason"
"""On a dead letter: `delivery_limit`, or `rejected` for one that was parked at once."""
ORIGIN_HEADER = "origin-topic"
"""On a dead letter: the topic it was published to."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Where messages go, and how each group reads them.

    keyed: messages of one key keep their order, and at most one message of a lane is in hand at a
    time. Without it members of a group compete for every message, and order is nobody's promise.
    lanes: sequences that keys are spread over, >= 1: how many messages a group has in hand at once.
    max_deliveries: after so many a message that is refused again becomes a dead letter, >= 1.
    """

    name: str
    lanes: int = 4
    keyed: bool = True
    max_deliveries: int = 5

    def __post_init__(self) -> None:
        """Raises InvalidInput for a name that some broker would refuse, or a number below 1."""
        if not self.name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in self.name):
            raise InvalidInput(f"{self.name!r} is not a name for a topic", field="name")
        for field_name in ("lanes", "max_deliveries"):
            if getattr(self, field_name) < 1:
                raise InvalidInput(f"{field_name} must be at least 1", field=field_name)

    def lane_of(self, key: str) -> int:
        """The lane of a key where the broker does not choose it: the same in every process."""
        return zlib.crc32(key.encode()) % self.lanes


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish. key: what keeps its order. value: bytes, at most VALUE_BYTES_MAX."""

    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as given to a member of a group; it is the member's until acked or nacked.

    delivery_count: 1 at first. lane: for information. token: the adapter's own, meaningless to
    others; it ties the answer to this delivery.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str]
    delivery_count: int
    lane: int
    token: object


def dead_letters_of(topic: Topic, group: str) -> Topic:
    """The topic of what `group` could not carry out: one lane, so in the order of giving up.

    It is read by a group of the topic's own name, which `declare` makes with it.
    """
    return Topic(f"{topic.name}.{group}.dlq", lanes=1, keyed=True, max_deliveries=1_000_000)


def check(message: Message) -> Message:
    """The message itself. Raises TooLarge, or InvalidInput without a key."""
    if not message.key:
        raise InvalidInput("a message needs a key: what it is about", field="key")
    if len(message.value) > VALUE_BYTES_MAX:
        raise TooLarge(f"a message of {len(message.value)} bytes, over {VALUE_BYTES_MAX}")
    return message
