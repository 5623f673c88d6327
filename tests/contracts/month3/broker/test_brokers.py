"""The promises of month3_messaging/broker/protocol.py, held by every adapter (B1..B7)."""

from __future__ import annotations

import asyncio

import pytest

from month3_messaging.broker import ORIGIN_HEADER, REASON_HEADER, Message, Topic, dead_letters_of
from scalelab.errors import InvalidInput, NotFound, TooLarge
from tests.contracts.month3.broker.conftest import Bed, numbered, take


async def test_a_message_arrives_as_it_was(bed: Bed) -> None:
    """Key, bytes that are no text, headers, and a count of 1."""
    topic = await bed.topic("a")
    await bed.broker.publish(topic, [Message("k", b"\x00\xff", {"trace": "ü"})])
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        [one] = await take(reader, 1)
    assert (one.topic, one.key, one.value, one.delivery_count) == (topic.name, "k", b"\x00\xff", 1)
    assert one.headers == {"trace": "ü"}


async def test_every_group_is_given_every_message(bed: Bed) -> None:
    """B2: what one group acked, another still gets."""
    topic = await bed.topic("a", "b")
    await bed.broker.publish(topic, [m for k in "xyz" for m in numbered(k, range(5))])
    for group in ("a", "b"):
        async with bed.broker.subscribe(topic, bed.group(group), member="m") as reader:
            taken = await take(reader, 15)
        assert sorted((one.key, int(one.value)) for one in taken) == [
            (key, number) for key in "xyz" for number in range(5)
        ]


async def test_a_key_keeps_its_order(bed: Bed) -> None:
    """B3: over one batch and over several, for many keys on few lanes."""
    topic = await bed.topic("a")
    for start in range(0, 20, 5):
        batch = [
            m
            for n in range(start, start + 5)
            for k in "abcde"
            for m in numbered(k, range(n, n + 1))
        ]
        await bed.broker.publish(topic, batch)
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        taken = await take(reader, 100)
    for key in "abcde":
        assert [int(one.value) for one in taken if one.key == key] == list(range(20))


async def test_a_nacked_message_comes_before_what_is_behind_it(bed: Bed) -> None:
    """B3, B5: again and with a higher count; then the next one with a count of 1."""
    topic = await bed.topic("a")
    await bed.broker.publish(topic, numbered("k", range(3)))
    seen: list[tuple[int, int]] = []
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        while len(seen) < 5:
            [one] = await take(reader, 1, ack=False)
            seen.append((int(one.value), one.delivery_count))
            if seen[-1] in ((0, 1), (1, 1)):
                await reader.nack(one)
            else:
                await reader.ack(one)
    assert seen == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]


async def test_a_keyed_lane_gives_one_message_at_a_time(bed: Bed) -> None:
    """B3: while one is in hand, nothing of its lane is delivered."""
    topic = await bed.topic("a", lanes=1)
    await bed.broker.publish(topic, [*numbered("x", range(1)), *numbered("y", range(1))])
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        [first] = await take(reader, 1, ack=False)
        assert await reader.receive(10, wait_s=1.0) == []
        await reader.ack(first)
        [second] = await take(reader, 1)
    assert (first.key, second.key) == ("x", "y")


async def test_members_compete_where_no_key_binds(bed: Bed) -> None:
    """Both members take part, no message goes to both, and none is left."""
    topic = await bed.topic("a", keyed=False, lanes=6)
    group = bed.group("a")
    async with (
        bed.broker.subscribe(topic, group, member="m1", in_hand=5) as one,
        bed.broker.subscribe(topic, group, member="m2", in_hand=5) as two,
    ):
        # Both are members before the first message: a group takes a moment to agree.
        seen: dict[str, list[bytes]] = {"m1": [], "m2": []}
        number = 0
        async with asyncio.timeout(90):
            while not (seen["m1"] and seen["m2"]):
                batch = [Message(f"k{n}", str(n).encode()) for n in range(number, number + 60)]
                await bed.broker.publish(topic, batch)
                number += 60
                for _ in range(20):
                    for name, reader in (("m1", one), ("m2", two)):
                        for delivery in await reader.receive(5, wait_s=0.1):
                            seen[name].append(delivery.value)
                            await reader.ack(delivery)
            while len({*seen["m1"], *seen["m2"]}) < number:
                for name, reader in (("m1", one), ("m2", two)):
                    for delivery in await reader.receive(50, wait_s=0.1):
                        seen[name].append(delivery.value)
                        await reader.ack(delivery)
    assert {*seen["m1"], *seen["m2"]} == {str(n).encode() for n in range(number)}


async def test_what_was_not_acked_is_given_to_the_next_member(bed: Bed) -> None:
    """B4: and what was acked is not."""
    topic = await bed.topic("a", lanes=1)
    group = bed.group("a")
    await bed.broker.publish(topic, numbered("k", range(4)))
    async with bed.broker.subscribe(topic, group, member="m1") as reader:
        await take(reader, 2)
        [held] = await take(reader, 1, ack=False)
        assert int(held.value) == 2
    async with bed.broker.subscribe(topic, group, member="m1") as reader:
        taken = await take(reader, 2)
    assert [int(one.value) for one in taken] == [2, 3]


async def test_a_message_that_is_refused_too_often_is_parked(bed: Bed) -> None:
    """B6: after max_deliveries, with its origin; the lane goes on, and the letter can be read."""
    topic = await bed.topic("a", lanes=1, tries=3)
    group = bed.group("a")
    await bed.broker.publish(topic, [Message("k", b"poison", {"h": "v"}), Message("k", b"next")])
    counts: list[int] = []
    async with bed.broker.subscribe(topic, group, member="m") as reader:
        while True:
            [one] = await take(reader, 1, ack=False)
            if one.value == b"next":
                await reader.ack(one)
                break
            counts.append(one.delivery_count)
            await reader.nack(one)
    assert counts == [1, 2, 3]
    graveyard = dead_letters_of(topic, group)
    async with bed.broker.subscribe(graveyard, graveyard.name, member="m") as graves:
        [letter] = await take(graves, 1)
    assert (letter.key, letter.value, letter.headers["h"]) == ("k", b"poison", "v")
    assert letter.headers[ORIGIN_HEADER] == topic.name
    assert letter.headers[REASON_HEADER] == "delivery_limit"
    # SQS moves the message as it is (a test of its adapter's differences holds this).
    assert letter.delivery_count == (4 if bed.kind == "sqs" else 1)


async def test_a_message_can_be_parked_at_once(bed: Bed) -> None:
    """B6: `park` does not wait for the count."""
    topic = await bed.topic("a", lanes=1)
    group = bed.group("a")
    await bed.broker.publish(topic, numbered("k", range(2)))
    async with bed.broker.subscribe(topic, group, member="m") as reader:
        [first] = await take(reader, 1, ack=False)
        await reader.nack(first, park=True)
        [second] = await take(reader, 1)
    assert int(second.value) == 1
    graveyard = dead_letters_of(topic, group)
    async with bed.broker.subscribe(graveyard, graveyard.name, member="m") as graves:
        [letter] = await take(graves, 1)
    assert (letter.value, letter.headers[REASON_HEADER]) == (b"0", "rejected")


async def test_a_paused_member_is_given_nothing(bed: Bed) -> None:
    """B7: then everything, in order."""
    topic = await bed.topic("a", lanes=1)
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        await bed.broker.publish(topic, numbered("k", range(1)))
        await take(reader, 1)
        await reader.pause()
        await bed.broker.publish(topic, numbered("k", range(1, 4)))
        assert await reader.receive(wait_s=1.0) == []
        await reader.resume()
        taken = await take(reader, 3)
    assert [int(one.value) for one in taken] == [1, 2, 3]


async def test_answering_twice_changes_nothing(bed: Bed) -> None:
    """An ack after an ack, a nack after an ack."""
    topic = await bed.topic("a", lanes=1)
    await bed.broker.publish(topic, numbered("k", range(2)))
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        [first] = await take(reader, 1)
        await reader.ack(first)
        await reader.nack(first)
        [second] = await take(reader, 1)
    assert int(second.value) == 1


async def test_declaring_again_changes_nothing(bed: Bed) -> None:
    """Every process declares what it uses; messages stay."""
    topic = await bed.topic("a")
    await bed.broker.publish(topic, numbered("k", range(2)))
    await bed.broker.declare(topic, [bed.group("a")])
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        assert len(await take(reader, 2)) == 2


async def test_a_message_nobody_takes_is_an_error(bed: Bed) -> None:
    """B1: never silence."""
    with pytest.raises(NotFound) as told:
        await bed.broker.publish(Topic(f"{bed.prefix}nowhere"), [Message("k", b"lost")])
    assert told.value.stable_code == "unroutable"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [(Message("k", bytes(5 * 2**20)), TooLarge), (Message("", b"x"), InvalidInput)],
    ids=["5 MB", "no key"],
)
async def test_a_bad_message_keeps_its_batch_from_being_sent(
    bed: Bed, wrong: Message, error: type[Exception]
) -> None:
    """Nothing of the batch is there afterwards."""
    topic = await bed.topic("a", lanes=1)
    with pytest.raises(error):
        await bed.broker.publish(topic, [Message("k", b"good"), wrong])
    await bed.broker.publish(topic, [Message("k", b"after")])
    async with bed.broker.subscribe(topic, bed.group("a"), member="m") as reader:
        [one] = await take(reader, 1)
    assert one.value == b"after"
