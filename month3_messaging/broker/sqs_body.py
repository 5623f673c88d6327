"""How a message lies in SQS: the queue's name, the body, and how many go together; no calls.

Wire form of a body: a JSON object of `topic`, `key`, `headers`, `value` in base 64 and `reason`. A
body is text, and SQS takes ten attributes at most, so headers are no attributes.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from month3_messaging.broker.messages import Message, Topic
from scalelab.errors import CorruptData, InvalidInput

ENTRIES_MAX = 10
"""Messages of one call, in either direction."""
_NAME_CHARACTERS = 75


@dataclass(frozen=True, slots=True)
class Body:
    """What travels. topic: where it was published. reason: for a dead letter."""

    topic: str
    key: str
    headers: dict[str, str]
    value: bytes
    reason: str


def queue_name(topic: Topic, group: str) -> str:
    """The queue of a group; of dead letters, whose group has the topic's name, just the topic's.

    Raises InvalidInput if SQS takes no name of that length.
    """
    name = topic.name if group == topic.name else f"{topic.name}.{group}"
    if len(written := name.replace(".", "__")) > _NAME_CHARACTERS:
        raise InvalidInput(f"{written} is too long a name for SQS", field="name")
    return written + (".fifo" if topic.keyed else "")


def encode_body(topic: str, message: Message, reason: str = "delivery_limit") -> str:
    """A body of SQS, which is text: the reason is read only among dead letters."""
    return json.dumps(
        {
            "topic": topic,
            "key": message.key,
            "headers": dict(message.headers),
            "value": base64.b64encode(message.value).decode(),
            "reason": reason,
        },
        separators=(",", ":"),
    )


def decode_body(body: str) -> Body:
    """Raises CorruptData: somebody else wrote to this queue."""
    try:
        told = json.loads(body)
        headers = {str(name): str(value) for name, value in told["headers"].items()}
        value = base64.b64decode(told["value"], validate=True)
        return Body(str(told["topic"]), str(told["key"]), headers, value, str(told["reason"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptData(f"a message on SQS is not ours: {error!r}") from error


def entry_of(topic: Topic, message: Message, body: str) -> dict[str, str]:
    """An entry of a batch; a call that boto3 repeats is the same message to a FIFO queue."""
    entry = {"Id": uuid.uuid4().hex, "MessageBody": body}
    if topic.keyed:
        entry |= {
            "MessageGroupId": str(topic.lane_of(message.key)),
            "MessageDeduplicationId": entry["Id"],
        }
    return entry


def batches(
    entries: Sequence[dict[str, str]], bytes_max: int
) -> Iterator[Sequence[dict[str, str]]]:
    """In their order, at most ten and `bytes_max` bytes together."""
    batch: list[dict[str, str]] = []
    size = 0
    for entry in entries:
        more = len(entry["MessageBody"])
        if batch and (len(batch) == ENTRIES_MAX or size + more > bytes_max):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += more
    if batch:
        yield batch
