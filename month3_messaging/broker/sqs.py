"""SQS behind the broker interface: a queue a group, and messages that come back by a timer.

A group of a topic is one queue: FIFO where the topic is keyed, with the lane as its message group,
else a standard one. Nobody is connected and nobody is a member: who receives a message has it until
its visibility time-out ends, and answers with the receipt of that one delivery.

Where SQS differs
    - There is no fan-out: `publish` sends to each group's queue in turn. A crash in between leaves
      some groups without the message (OutcomeUnknown); in production a topic of SNS does this.
    - There are no members: every receiver of a group shares every lane, and `member` is for the
      log alone. A receiver that is killed keeps what it had until the time-out (B4), and a message
      that takes longer than the time-out is given to another while the first still works.
    - The delivery count is SQS's own: a time-out counts like a nack. The redrive policy moves a
      message when it would be received once more, so a dead letter comes after the next `receive`.
    - A message parked at once is sent, then deleted: a crash in between doubles it.
    - A dead letter's delivery count goes on from where it was.
    - A body is text: value, key and headers travel in JSON, the value in base 64.
    - A group is given nothing from before it was declared; a topic without any group refuses
      messages (`unroutable`), as on RabbitMQ.
    - A name is at most 75 characters, and a dot in it becomes two underscores.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import boto3.session
from botocore.config import Config

from month3_messaging.broker.messages import (
    ORIGIN_HEADER,
    REASON_HEADER,
    Delivery,
    Message,
    Topic,
    check,
    dead_letters_of,
)
from month3_messaging.broker.sqs_body import (
    ENTRIES_MAX,
    batches,
    decode_body,
    encode_body,
    entry_of,
    queue_name,
)
from month3_messaging.broker.sqs_errors import RAISED, code_of, translate
from scalelab.errors import (
    Conflict,
    NotFound,
    OutcomeUnknown,
    ScalelabError,
    TooLarge,
)

T = TypeVar("T")
_LANES_TAG = "lanes"
_RAN_OUT = ("ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue")
_SHORT_POLL_S = 0.1
_LONG_POLL_S = 20
_COUNT, _GROUP = "ApproximateReceiveCount", "MessageGroupId"


@dataclass(frozen=True, slots=True)
class SqsBrokerSettings:
    """endpoint: of SQS, or of what stands in for it. visibility_s: how long a receiver has a
    message, >= 1. message_bytes_max: of a message and its headers as they are sent."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    visibility_s: int = 30
    message_bytes_max: int = 1024 * 1024
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    attempts: int = 3


@asynccontextmanager
async def open_sqs(settings: SqsBrokerSettings) -> AsyncGenerator[SqsBroker]:
    """A broker. Raises Unavailable if the endpoint does not answer."""
    broker = SqsBroker(settings)
    try:
        await broker.call(broker.client.list_queues, MaxResults=1, what="list queues", writes=False)
        yield broker
    finally:
        broker.client.close()


class SqsBroker:
    """See protocol.Broker; made by `open_sqs`."""

    def __init__(self, settings: SqsBrokerSettings) -> None:
        self.settings = settings
        # boto3 makes its clients at run time; this one has no stubs.
        session: Any = boto3.session.Session()
        self.client: Any = session.client(
            "sqs",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            config=Config(
                connect_timeout=settings.connect_timeout_s,
                read_timeout=settings.read_timeout_s,
                retries={"total_max_attempts": settings.attempts, "mode": "standard"},
                proxies={},
            ),
        )
        self._urls: dict[str, str] = {}
        self._groups: dict[str, tuple[str, ...]] = {}

    async def declare(self, topic: Topic, groups: Sequence[str]) -> None:
        """A queue for each group, and the queue of its dead letters behind it."""
        for group in groups:
            parked = dead_letters_of(topic, group)
            grave = await self._make(parked, parked.name, {})
            redrive = {"deadLetterTargetArn": grave, "maxReceiveCount": str(topic.max_deliveries)}
            await self._make(topic, group, {"RedrivePolicy": json.dumps(redrive)})
            self._groups[parked.name] = (parked.name,)
        known = self._groups.get(topic.name, ())
        self._groups[topic.name] = tuple(dict.fromkeys((*known, *groups)))

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Ten at a time, to the queue of every group that was declared here."""
        groups = self._groups.get(topic.name)
        if not groups:
            raise NotFound(f"no group of {topic.name} was declared here", code="unroutable")
        bodies = [self._body(topic, check(message)) for message in messages]
        entries = [
            entry_of(topic, message, body) for message, body in zip(messages, bodies, strict=True)
        ]
        sent = False
        for group in groups:
            url = await self.url(topic, group)
            for batch in batches(entries, self.settings.message_bytes_max):
                try:
                    await self._send(url, batch)
                except ScalelabError as error:
                    if not sent:
                        raise
                    raise OutcomeUnknown(f"{topic.name} was published in part: {error}") from error
                sent = True

    @asynccontextmanager
    async def subscribe(
        self, topic: Topic, group: str, *, member: str, in_hand: int = 100
    ) -> AsyncGenerator[SqsSubscription]:
        """A receiver; what it has in hand when it leaves is visible to others at once."""
        url = await self.url(topic, group)
        subscription = SqsSubscription(self, topic, group, url, in_hand)
        try:
            yield subscription
        finally:
            await subscription.give_back()

    async def url(self, topic: Topic, group: str) -> str:
        """The address of a group's queue. NotFound code `unroutable` if there is none."""
        name = queue_name(topic, group)
        if name not in self._urls:
            answer = await self.call(
                self.client.get_queue_url, QueueName=name, what=f"find {name}", writes=False
            )
            self._urls[name] = str(answer["QueueUrl"])
        return self._urls[name]

    async def call(
        self, ask: Callable[..., T], *, what: str, writes: bool = True, **request: object
    ) -> T:
        """One call on a thread, its errors translated."""
        try:
            return await asyncio.to_thread(ask, **request)
        except RAISED as error:
            raise translate(error, writes=writes, what=what) from error

    async def park(self, topic: Topic, group: str, delivery: Delivery) -> None:
        """Send a delivery to its group's dead letters."""
        parked = dead_letters_of(topic, group)
        message = Message(delivery.key, delivery.value, delivery.headers)
        entry = entry_of(parked, message, encode_body(topic.name, message, "rejected"))
        await self._send(await self.url(parked, parked.name), [entry])

    async def _make(self, topic: Topic, group: str, more: Mapping[str, str]) -> str:
        """Make a queue unless it is there; its resource name. Conflict if it has other numbers."""
        name = queue_name(topic, group)
        with suppress(NotFound):
            await self._check_lanes(topic, await self.url(topic, group))
        attributes = {"VisibilityTimeout": str(self.settings.visibility_s), **more}
        if topic.keyed:
            attributes["FifoQueue"] = "true"
        made = await self.call(
            self.client.create_queue,
            QueueName=name,
            Attributes=attributes,
            tags={_LANES_TAG: str(topic.lanes)},
            what=f"make {name}",
        )
        url = self._urls[name] = str(made["QueueUrl"])
        told = await self.call(
            self.client.get_queue_attributes,
            QueueUrl=url,
            AttributeNames=["QueueArn"],
            what=f"look at {name}",
            writes=False,
        )
        return str(told["Attributes"]["QueueArn"])

    async def _check_lanes(self, topic: Topic, url: str) -> None:
        there = await self.call(
            self.client.list_queue_tags, QueueUrl=url, what=f"look at {url}", writes=False
        )
        found = there.get("Tags", {}).get(_LANES_TAG)
        if found != str(topic.lanes):
            raise Conflict(f"{url} has {found} lanes, not {topic.lanes}", code="topic_differs")

    def _body(self, topic: Topic, message: Message) -> str:
        body = encode_body(topic.name, message)
        if len(body) > self.settings.message_bytes_max:
            raise TooLarge(
                f"{len(body)} bytes as sent to SQS, over {self.settings.message_bytes_max}"
            )
        return body

    async def _send(self, url: str, entries: Sequence[Mapping[str, str]]) -> None:
        answer = await self.call(
            self.client.send_message_batch, QueueUrl=url, Entries=entries, what=f"send to {url}"
        )
        failed = cast("list[Mapping[str, Any]]", answer.get("Failed", []))
        if failed:
            first = failed[0]
            raise OutcomeUnknown(
                f"{len(failed)} of {len(entries)} messages refused by {url}: {first.get('Message')}"
            )


class SqsSubscription:
    """See protocol.Subscription; made by SqsBroker.subscribe. A delivery's token is its receipt."""

    def __init__(self, broker: SqsBroker, topic: Topic, group: str, url: str, in_hand: int) -> None:
        self._broker = broker
        self._topic = topic
        self._group = group
        self._url = url
        self._most = topic.lanes if topic.keyed else in_hand
        self._in_hand: set[str] = set()
        self._paused = False

    async def receive(self, max_messages: int = 100, *, wait_s: float = 1.0) -> list[Delivery]:
        """One message a call where the topic is keyed, so that a lane has one in hand."""
        deadline_s = asyncio.get_running_loop().time() + wait_s
        deliveries: list[Delivery] = []
        while len(deliveries) < max_messages:
            left_s = deadline_s - asyncio.get_running_loop().time()
            room = min(max_messages - len(deliveries), self._most - len(self._in_hand))
            came: list[Delivery] = []
            if room > 0 and not self._paused:
                long_poll_s = 0 if deliveries else max(0, min(_LONG_POLL_S, int(left_s)))
                came = await self._ask(room, long_poll_s)
                deliveries += came
            if not came:
                if deliveries or left_s <= 0:
                    break
                await asyncio.sleep(min(_SHORT_POLL_S, left_s))
        return deliveries

    async def ack(self, delivery: Delivery) -> None:
        """Delete it. A receipt that ran out deletes nothing: it is another's by now."""
        receipt = str(delivery.token)
        if receipt in self._in_hand:
            self._in_hand.discard(receipt)
            await self._answer("delete_message", ReceiptHandle=receipt)

    async def nack(self, delivery: Delivery, *, park: bool = False) -> None:
        """Visible again at once; the redrive policy counts. Or sent to the dead letters."""
        receipt = str(delivery.token)
        if receipt not in self._in_hand:
            return
        if park:
            await self._broker.park(self._topic, self._group, delivery)
            await self.ack(delivery)
            return
        self._in_hand.discard(receipt)
        await self._visible(receipt)

    async def pause(self) -> None:
        """Ask for nothing."""
        self._paused = True

    async def resume(self) -> None:
        """Ask again."""
        self._paused = False

    async def give_back(self) -> None:
        """Let others have what is in hand, unless SQS is gone: then the time-out does it."""
        with suppress(ScalelabError):
            while self._in_hand:
                await self._visible(self._in_hand.pop())

    async def _visible(self, receipt: str) -> None:
        await self._answer("change_message_visibility", ReceiptHandle=receipt, VisibilityTimeout=0)

    async def _answer(self, operation: str, **request: str | int) -> None:
        try:
            await self._broker.call(
                partial(getattr(self._broker.client, operation), QueueUrl=self._url, **request),
                what=f"{operation} at {self._url}",
            )
        except ScalelabError as error:
            if not _ran_out(error.__cause__):
                raise

    async def _ask(self, room: int, long_poll_s: int) -> list[Delivery]:
        answer = await self._broker.call(
            self._broker.client.receive_message,
            QueueUrl=self._url,
            MaxNumberOfMessages=1 if self._topic.keyed else min(room, ENTRIES_MAX),
            WaitTimeSeconds=long_poll_s,
            MessageSystemAttributeNames=["All"],
            what=f"receive from {self._url}",
            writes=False,
        )
        came = [self._delivery(raw) for raw in answer.get("Messages", [])]
        self._in_hand.update(str(delivery.token) for delivery in came)
        return came

    def _delivery(self, raw: Mapping[str, Any]) -> Delivery:
        came = decode_body(str(raw["Body"]))
        headers = came.headers
        if came.topic != self._topic.name:
            headers |= {ORIGIN_HEADER: came.topic, REASON_HEADER: came.reason}
        attributes: Mapping[str, str] = raw.get("Attributes", {})
        count, lane = int(attributes.get(_COUNT, "1")), int(attributes.get(_GROUP, "0"))
        receipt = str(raw["ReceiptHandle"])
        return Delivery(self._topic.name, came.key, came.value, headers, count, lane, receipt)


def _ran_out(error: BaseException | None) -> bool:
    """Whether a receipt is good no longer: the message is another's, or was deleted."""
    return isinstance(error, Exception) and code_of(error).endswith(_RAN_OUT)
