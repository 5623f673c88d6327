"""The experiment `serialization`: each claim is judged on what was counted."""

from __future__ import annotations

import random

import pytest

from month3_messaging.experiments.serialization import (
    Measured,
    changes,
    formats,
    judge,
    orders,
)

ARMS = formats()
SIZES = {
    "JSON": 300,
    "MessagePack": 200,
    "Protobuf, library": 100,
    "Protobuf, ours": 100,
    "Avro, fastavro": 90,
    "Avro, ours": 90,
}


def failing(
    *,
    sizes: dict[str, int] | None = None,
    zipped: dict[str, int] | None = None,
    cpu_us: dict[str, float] | None = None,
    written: dict[str, list[bytes]] | None = None,
    survived: dict[str, tuple[bool, bool]] | None = None,
) -> int:
    """How many claims do not hold of these figures."""
    each = {**SIZES, **(sizes or {})}
    batches = {**dict.fromkeys(each, 100), "JSON": 130, **(zipped or {})}
    spent = {name: 10.0 if name.endswith("ours") else 2.0 for name in each} | (cpu_us or {})
    measured = {name: Measured([size], batches[name], [spent[name]]) for name, size in each.items()}
    values = {name: [b"a" if "Avro" in name else b"p"] for name in each} | (written or {})
    result = judge(ARMS, measured, values, survived or changes())
    return sum(not claim.holds for claim in result.shape)


def test_what_was_seen_holds() -> None:
    """The control of the cases below; the checkers' own answers among it."""
    assert failing() == 0


@pytest.mark.parametrize("size", [{"MessagePack": 301}, {"MessagePack": 140}, {"JSON": 199}])
def test_sizes_can_break_a_claim(size: dict[str, int]) -> None:
    """The order, or the half."""
    assert failing(sizes=size) >= 1


def test_each_other_figure_can_break_one_claim() -> None:
    """No claim holds whatever was measured."""
    assert failing(zipped={"JSON": 250}) == 1
    assert failing(cpu_us={"Avro, ours": 3.0}) == 1
    assert failing(written={"Avro, ours": [b"?"]}) == 1
    assert failing(survived={**changes(), "type changed": (True, False)}) == 1


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_reads_what_it_wrote(arm: object) -> None:
    """Equal orders: nobody saves bytes by leaving something out."""
    [one] = [one for one in ARMS if one is arm]
    for order in orders(random.Random(7), 50):
        assert one.read(one.write(order)) == order
