"""`./lab month3 deadletters` on a running stack, from a poison event to the end of its letter."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.commands import app
from month3_messaging.orders import FACTS, PAYMENTS_TOPIC
from month3_messaging.stack import Stack
from scalelab.clients.kafka import open_producer
from scalelab.lab.cli.outcome import CommandFailed
from scalelab.lab.cli.place import Place
from tests.e2e.month3.crowd import told
from tests.integration.month3.messaging_bed import poll_until

pytestmark = pytest.mark.timeout(400)


async def at_the_desk(root: Path, *words: str) -> Any:
    """What `./lab month3 deadletters …` tells."""
    return await asyncio.to_thread(told, root, "deadletters", *words)


async def publish_poison(stack: Stack) -> UUID:
    """A payment's fact about an order that has no id."""
    kind = sorted(FACTS)[0]
    event = Event(uuid4(), kind, "/test", "no-order", datetime.now(UTC), {"nothing": True})
    async with open_producer(stack.addresses.kafka_bootstrap, "test") as producer:
        await producer.send(PAYMENTS_TOPIC, event.subject, to_value(event), to_headers(event))
    return event.id


async def parked(root: Path, event_id: UUID) -> int:
    """The id of the event's letter, once it is on the desk."""
    found: list[int] = []

    async def is_there() -> bool:
        letters = await at_the_desk(root, "list")
        found[:] = [one["id"] for one in letters if one["event_id"] == str(event_id)]
        return bool(found)

    await poll_until(is_there, "the letter is on the desk")
    return found[0]


async def test_poison_comes_to_the_desk_and_back_to_it_until_it_is_discarded(
    stack: Stack, lab_root: Path
) -> None:
    """The orders' worker gives up; a replay fails again and is parked with its round; the stack's
    other orders do not wait for it. Every step stands in the audit with who took it."""
    letter_id = await parked(lab_root, await publish_poison(stack))
    shown = await at_the_desk(lab_root, "show", str(letter_id))
    assert (shown["group"], shown["origin"].partition("/")[0]) == ("orders", PAYMENTS_TOPIC)
    assert 1 <= shown["attempts"] <= 5
    assert shown["stack"]
    await at_the_desk(lab_root, "replay", str(letter_id), "--who", "ann")

    async def is_back() -> bool:
        again = await at_the_desk(lab_root, "show", str(letter_id))
        return (again["state"], again["round"]) == ("parked", 1)

    await poll_until(is_back, "the replay has failed again")
    await at_the_desk(lab_root, "discard", str(letter_id), "--who", "ann")
    shown = await at_the_desk(lab_root, "show", str(letter_id))
    steps = [(line["who"], line["what"]) for line in shown["audit"]]
    assert steps[0] == ("collector", "parked")
    assert steps[1] == ("ann", "replayed")
    assert steps[-1] == ("ann", "discarded")
    assert {("collector", "came back")} < set(steps)


async def test_an_edit_that_is_no_event_is_told_in_a_sentence(stack: Stack, lab_root: Path) -> None:
    """With the stable code, and the letter stays as it was."""
    letter_id = await parked(lab_root, await publish_poison(stack))
    line = ["month3", "deadletters", "edit", str(letter_id), "--value", "[]"]
    result = await asyncio.to_thread(
        CliRunner().invoke, app, line, obj=Place(lab_root, tuple(line))
    )
    assert isinstance(result.exception, CommandFailed)
    assert "not_an_event" in str(result.exception)
    shown = await at_the_desk(lab_root, "show", str(letter_id))
    assert len(shown["audit"]) == 1
