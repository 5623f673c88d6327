"""What SQS does in its own way; each is a difference that its adapter states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from month3_messaging.broker import Delivery, Message, Topic, dead_letters_of
from month3_messaging.broker.sqs import SqsBrokerSettings, SqsSubscription, open_sqs
from scalelab.errors import Conflict, NotFound, Unavailable


def settings(endpoint: str, *, visibility_s: int = 60) -> SqsBrokerSettings:
    """Keys that the stand-in does not check."""
    return SqsBrokerSettings(endpoint, "key", "secret", visibility_s=visibility_s)


async def next_one(reader: SqsSubscription) -> Delivery:
    """The next message, whenever it comes."""
    async with asyncio.timeout(60):
        while True:
            for delivery in await reader.receive(1, wait_s=0.5):
                return delivery


async def test_a_message_nobody_answered_comes_back_by_its_time_out(
    sqs_endpoint: str, topic_prefix: str
) -> None:
    """B4 without members: no one is missed, a timer ends; and it counts like a refusal."""
    topic = Topic(f"{topic_prefix}things", lanes=1)
    async with open_sqs(settings(sqs_endpoint, visibility_s=1)) as broker:
        await broker.declare(topic, ["a"])
        await broker.publish(topic, [Message("k", b"slow")])
        async with (
            broker.subscribe(topic, "a", member="m1") as slow,
            broker.subscribe(topic, "a", member="m2") as other,
        ):
            first = await next_one(slow)
            second = await next_one(other)
            assert (first.value, second.value) == (b"slow", b"slow")
            assert (first.delivery_count, second.delivery_count) == (1, 2)


async def test_the_redrive_policy_parks_what_kills_its_receivers(
    sqs_endpoint: str, topic_prefix: str
) -> None:
    """B6: nobody nacks; receivers come, take it, and are gone."""
    topic = Topic(f"{topic_prefix}things", lanes=1, max_deliveries=2)
    group = f"{topic_prefix}a"
    async with open_sqs(settings(sqs_endpoint, visibility_s=1)) as broker:
        await broker.declare(topic, [group])
        await broker.publish(topic, [Message("k", b"poison"), Message("k", b"next")])
        async with AsyncExitStack() as left:
            taken: list[Delivery] = []
            for number in range(3):
                joining = broker.subscribe(topic, group, member=f"m{number}")
                taken.append(await next_one(await left.enter_async_context(joining)))
        parked = dead_letters_of(topic, group)
        async with broker.subscribe(parked, parked.name, member="m") as graves:
            letter = await next_one(graves)
    assert [one.value for one in taken] == [b"poison", b"poison", b"next"]
    assert letter.value == b"poison"
    assert letter.delivery_count == 3  # it goes on counting where it was


async def test_two_receivers_share_the_lanes_of_a_keyed_topic(
    sqs_endpoint: str, topic_prefix: str
) -> None:
    """No lane belongs to a member: whoever asks next has the next free lane."""
    topic = Topic(f"{topic_prefix}things", lanes=2)
    keys = {topic.lane_of(key): key for key in "abcdefgh"}
    assert len(keys) == 2
    async with open_sqs(settings(sqs_endpoint)) as broker:
        await broker.declare(topic, ["a"])
        await broker.publish(topic, [Message(key, b"x") for key in keys.values()])
        async with (
            broker.subscribe(topic, "a", member="m1") as one,
            broker.subscribe(topic, "a", member="m2") as two,
        ):
            lanes = {(await next_one(one)).lane, (await next_one(two)).lane}
    assert lanes == {0, 1}


async def test_each_group_has_a_copy_and_no_group_is_an_error(
    sqs_endpoint: str, topic_prefix: str
) -> None:
    """There is no fan-out: what nobody declared would be sent to nobody."""
    topic = Topic(f"{topic_prefix}things")
    async with open_sqs(settings(sqs_endpoint)) as broker:
        await broker.declare(topic, [])
        with pytest.raises(NotFound) as told:
            await broker.publish(topic, [Message("k", b"lost")])
        assert told.value.stable_code == "unroutable"


@pytest.mark.parametrize(
    "other",
    [lambda topic: replace(topic, max_deliveries=4), lambda topic: replace(topic, lanes=5)],
    ids=["tries", "lanes"],
)
async def test_a_topic_with_other_numbers_is_a_conflict(
    sqs_endpoint: str, topic_prefix: str, other: Callable[[Topic], Topic]
) -> None:
    """Lanes mean nothing to SQS: a tag of the queue remembers them."""
    topic = Topic(f"{topic_prefix}things", lanes=3, max_deliveries=3)
    async with open_sqs(settings(sqs_endpoint)) as broker:
        await broker.declare(topic, ["a"])
        with pytest.raises(Conflict) as told:
            await broker.declare(other(topic), ["a"])
    assert told.value.stable_code == "topic_differs"


async def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    """With a code; port 1 of this machine has no SQS."""
    with pytest.raises(Unavailable) as told:
        async with open_sqs(settings("http://127.0.0.1:1")):
            pass
    assert told.value.stable_code == "sqs_unavailable"
