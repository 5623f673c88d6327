"""One event, many groups, each at its own pace: fan-out by a topic instead of by calls.

Whoever publishes knows no reader and waits for none (B1 and B2 of the broker's promises). A group
that is slow, stopped or full of poison has its own position and its own dead letters; the others do
not notice. What is lost against a scatter: nobody is told when all have read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from month3_messaging.broker import Broker, Delivery, Subscription, Topic
from scalelab.errors import ScalelabError, Unavailable

Handle = Callable[[Delivery], Awaitable[None]]
"""Carries a message out. A retryable error has it delivered again, another one parks it."""


@dataclass(frozen=True, slots=True)
class Follower:
    """One member of one group. member: the same name after a restart. in_hand: as subscribe's."""

    group: str
    member: str
    handle: Handle
    in_hand: int = 100


async def follow(
    broker: Broker, topic: Topic, followers: Sequence[Follower], *, again_s: float = 1.0
) -> None:
    """Let every follower read at its own pace, until cancelled.

    The topic must be declared with their groups. A follower that loses the broker subscribes anew
    after `again_s`. Any other exception that is not a ScalelabError ends all: it is a bug.
    """
    async with asyncio.TaskGroup() as group:
        for follower in followers:
            group.create_task(_follow(broker, topic, follower, again_s), name=follower.group)


async def _follow(broker: Broker, topic: Topic, follower: Follower, again_s: float) -> None:
    while True:
        try:
            async with broker.subscribe(
                topic, follower.group, member=follower.member, in_hand=follower.in_hand
            ) as subscription:
                await _read(subscription, follower)
        except Unavailable:
            await asyncio.sleep(again_s)


async def _read(subscription: Subscription, follower: Follower) -> None:
    while True:
        for delivery in await subscription.receive(follower.in_hand):
            try:
                await follower.handle(delivery)
            except ScalelabError as error:
                await subscription.nack(delivery, park=not error.retryable)
            else:
                await subscription.ack(delivery)
