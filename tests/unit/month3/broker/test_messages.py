"""Topics and messages: what is refused before any broker is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from month3_messaging.broker import Topic, dead_letters_of
from scalelab.errors import InvalidInput


@pytest.mark.parametrize("name", ["", "a b", "ü", "a/b", "a#"])
def test_a_name_that_some_broker_would_refuse_is_refused(name: str) -> None:
    """One rule for all, so that a topic can move from one broker to another."""
    with pytest.raises(InvalidInput) as told:
        Topic(name)
    assert told.value.field == "name"


@pytest.mark.parametrize("field", ["lanes", "max_deliveries"])
def test_a_number_below_one_is_refused(field: str) -> None:
    """No lane, or no delivery, would be a topic that loses everything."""
    numbers = {"lanes": 4, "max_deliveries": 5, field: 0}
    with pytest.raises(InvalidInput, match=field):
        Topic("t", numbers["lanes"], max_deliveries=numbers["max_deliveries"])


def test_a_key_has_the_same_lane_in_every_process() -> None:
    """Python's own hash differs from process to process; order would end with a restart."""
    topic = Topic("t", lanes=7)
    keys = [f"order-{number}" for number in range(50)]
    program = (
        "from month3_messaging.broker import Topic\n"
        f"print([Topic('t', lanes=7).lane_of(key) for key in {keys!r}])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == str([topic.lane_of(key) for key in keys])
    assert len({topic.lane_of(key) for key in keys}) == 7


def test_dead_letters_belong_to_one_group() -> None:
    """What one group cannot carry out, another may."""
    topic = Topic("orders")
    assert dead_letters_of(topic, "a").name == "orders.a.dlq"
    assert dead_letters_of(topic, "a") != dead_letters_of(topic, "b")


def test_the_door_loads_no_client_library_of_the_adapters() -> None:
    """A service that wants an event's envelope needs neither aio-pika nor boto3."""
    program = (
        "import sys, month3_messaging.broker\n"
        "print(sorted({'aio_pika', 'aiokafka', 'boto3'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == "[]"
