"""One small interface to a message broker; three adapters pass one suite for it.

Promises (the contract suite cites them)
    B1  `publish` returns when the broker has every message to keep: it survives the broker's
        kill -9. A message that no group's queue or topic takes is an error, never silence.
    B2  Every group is delivered every message published after `declare` named the group, at least
        once; one member of the group at a time has it.
    B3  keyed: messages of one key are delivered in the order of their publishing. One that was
        nacked is delivered again before anything behind it in its lane.
    B4  What was not acked when its member left is delivered to another, or to the next one.
    B5  `delivery_count` is 1 at first, and one more each time a member nacked the message.
    B6  Nacked at its `max_deliveries`-th delivery, or with `park`, a message goes to the group's
        dead letters with its key, value and headers; its lane goes on.
    B7  A paused member is given nothing, stays a member and keeps its lanes; resumed it goes on.

Promised by nobody: exactly once. An ack is told to the broker soon, not at once; a crash repeats
what it had not heard. Effects are deduplicated where they happen (see the inbox).

Differences that stay visible, by adapter: see the docstrings of kafka.py, rabbitmq.py and sqs.py.
These are doors of their own: each is imported by who wants that broker, so that nobody loads a
client library that nobody uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from month3_messaging.broker.messages import Delivery, Message, Topic


class Subscription(Protocol):
    """A member of a group. One task uses it; leaving its context leaves the group."""

    async def receive(self, max_messages: int = 100, *, wait_s: float = 1.0) -> list[Delivery]:
        """What is there, or what comes first within `wait_s`; empty when nothing does.

        Raises Unavailable when the broker is gone: subscribe anew.
        """
        ...

    async def ack(self, delivery: Delivery) -> None:
        """It is carried out. Idempotent; for a message that is another's by now it does nothing."""
        ...

    async def nack(self, delivery: Delivery, *, park: bool = False) -> None:
        """It could not be carried out: deliver it again, or (`park`) make it a dead letter."""
        ...

    async def pause(self) -> None:
        """Be given nothing until `resume`."""
        ...

    async def resume(self) -> None:
        """Be given messages again."""
        ...


class Broker(Protocol):
    """A connected broker; made by an adapter's `open_…`, which closes it."""

    async def declare(self, topic: Topic, groups: Sequence[str]) -> None:
        """Make the topic and what each group needs to be given its messages. Repeatable.

        Raises Conflict if the topic exists with other lanes.
        """
        ...

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        """Hand over messages in their order; returns when all are kept (B1).

        Raises TooLarge or InvalidInput before anything was sent; NotFound code `unroutable` if
        the topic or its groups were never declared; Unavailable; OutcomeUnknown if no answer
        came: some may be there, and publishing again may double them.
        """
        ...

    def subscribe(
        self, topic: Topic, group: str, *, member: str, in_hand: int = 100
    ) -> AbstractAsyncContextManager[Subscription]:
        """Join `group` as `member`, a name that is the same after a restart.

        in_hand: bound on messages fetched and not answered, of a topic that is not keyed.
        """
        ...
