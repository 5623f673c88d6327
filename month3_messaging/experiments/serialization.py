"""How many bytes and how much CPU does an order cost in each format, and what survives a change?

The same orders as JSON, MessagePack, Protobuf and Avro. Bytes are counted, and counted again for a
batch of a hundred that gzip went over: it takes back most of what names cost. CPU is the thread's
own time for writing and reading, in rounds where the arms take turns, as a ratio to the standard
library's JSON: whether an arm is C or plain Python says more there than its format does.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, cast

from month3_messaging.codecs import (
    AvroCodec,
    Compatibility,
    Field,
    Kind,
    MessageType,
    ProtobufCodec,
    Schema,
    avro_evolution,
    parse_schema,
    protobuf_evolution,
)
from month3_messaging.codecs.order_placed import AVRO, AVRO_TEXTS, PROTOBUF
from month3_messaging.experiments.serialization_peers import (
    AvroLibrary,
    message_class,
    read_messagepack,
    write_messagepack,
)
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result, Role

BATCH = 100

Order = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """One arm. write, read: a whole order to bytes and back to plain values."""

    name: str
    role: Role
    write: Callable[[Order], bytes]
    read: Callable[[bytes], object]


@dataclass
class Measured:
    """bytes_each: of every order. batch: of BATCH orders in a row, zipped. cpu_us: a round each."""

    bytes_each: list[int]
    batch_gzip: int
    cpu_us: list[float] = field(default_factory=list[float])


def orders(generator: random.Random, count: int) -> list[Order]:
    """Orders of one to five lines, with ids as this course has them."""
    return [_order(generator) for _ in range(count)]


def _order(generator: random.Random) -> Order:
    bought = [
        (generator.randint(1, 4), generator.randint(100, 200_000))
        for _ in range(generator.randint(1, 5))
    ]
    lines = [
        {
            "product_id": f"p-{generator.randrange(10_000):04d}",
            "quantity": quantity,
            "price_minor": price,
        }
        for quantity, price in bought
    ]
    id_ = f"{generator.getrandbits(128):032x}"
    return {
        "order_id": f"{id_[:8]}-{id_[8:12]}-{id_[12:16]}-{id_[16:20]}-{id_[20:]}",
        "user_id": f"u-{generator.randrange(100_000)}",
        "placed_at_us": 1_767_323_045_000_000 + generator.randrange(10**12),
        "currency": generator.choice(("EUR", "USD")),
        "total_minor": sum(quantity * price for quantity, price in bought),
        "lines": lines,
        "note": "ring twice" if generator.random() < 0.1 else None,
    }


def formats() -> tuple[Format, ...]:
    """Every arm; each of our own formats beside its library."""
    own_protobuf, own_avro = ProtobufCodec(PROTOBUF), AvroCodec(AVRO)
    latest = own_avro.revision
    fastavro = AvroLibrary(json.loads(AVRO_TEXTS[-1]))
    message = message_class(PROTOBUF.schema(latest))

    def with_protobuf(order: Order) -> bytes:
        return cast("bytes", message(**order).SerializeToString(deterministic=True))

    def from_protobuf(value: bytes) -> object:
        read = message.FromString(value)
        lines = [
            {"product_id": one.product_id, "quantity": one.quantity, "price_minor": one.price_minor}
            for one in read.lines
        ]
        plain = ("order_id", "user_id", "placed_at_us", "currency", "total_minor")
        told = {name: getattr(read, name) for name in plain}
        return {**told, "lines": lines, "note": read.note if read.HasField("note") else None}

    return (
        Format("JSON", "control", _with_json, json.loads),
        Format("MessagePack", "treatment", write_messagepack, read_messagepack),
        Format("Protobuf, library", "treatment", with_protobuf, from_protobuf),
        Format(
            "Protobuf, ours", "treatment", own_protobuf.encode, lambda v: own_protobuf.decode(v, 2)
        ),
        Format("Avro, fastavro", "treatment", fastavro.write, fastavro.read),
        Format("Avro, ours", "treatment", own_avro.encode, lambda v: own_avro.decode(v, latest)),
    )


def _with_json(order: Order) -> bytes:
    return json.dumps(order, separators=(",", ":")).encode()


def run(lab: Lab) -> Result:
    """Write and read the same orders in turns; count; then ask the checkers."""
    rounds, count = (7, 400) if lab.quick else (25, 2000)
    taken = orders(lab.random(), count)
    arms = formats()
    written = {one.name: [one.write(order) for order in taken] for one in arms}
    for one in arms:
        read_back = [one.read(value) for value in written[one.name]]
        if read_back != taken:
            raise RuntimeError(f"{one.name} does not read what it wrote")
    measured = {
        name: Measured(list(map(len, values)), len(gzip.compress(b"".join(values[:BATCH]))))
        for name, values in written.items()
    }
    lab.note(f"{rounds} rounds of {count} orders an arm")
    for number in range(rounds + 1):
        for one in arms[:: -1 if number % 2 else 1]:
            spent_us = _cpu_us(one, taken)
            if number:  # the first round warms up
                measured[one.name].cpu_us.append(spent_us)
    return judge(arms, measured, written, changes())


def _cpu_us(one: Format, taken: Sequence[Order]) -> float:
    """CPU µs an order of this thread, for writing and reading it."""
    begun_ns = time.thread_time_ns()
    for order in taken:
        one.read(one.write(order))
    return (time.thread_time_ns() - begun_ns) / 1000 / len(taken)


def changes() -> dict[str, tuple[bool, bool]]:
    """For each kind of change: whether both sides may be deployed in any order, Avro, Protobuf."""

    def avro(*fields: Mapping[str, object]) -> Schema:
        return parse_schema(json.dumps({"type": "record", "name": "R", "fields": fields}))

    def message(*fields: Field, reserved: tuple[int, ...] = ()) -> MessageType:
        return MessageType("R", fields, frozenset(reserved))

    id_, n = {"name": "id", "type": "string"}, {"name": "n", "type": "long"}
    note: dict[str, object] = {"name": "note", "type": ["null", "string"], "default": None}
    first, second = Field(1, "id", Kind.STRING), Field(2, "n", Kind.INT64)
    table = {
        "optional field added": (
            avro(id_),
            avro(id_, note),
            message(first),
            message(first, second),
        ),
        "optional field removed": (
            *(avro(id_, note), avro(id_)),
            *(message(first, second), message(first, reserved=(2,))),
        ),
        "required field added": (
            *(avro(id_), avro(id_, n)),
            *(message(first), message(first, second)),
        ),
        "field renamed": (
            *(avro(n), avro({**n, "name": "m"})),
            *(message(second), message(Field(2, "m", Kind.INT64))),
        ),
        "type changed": (
            *(avro(n), avro({**n, "type": "string"})),
            *(message(second), message(Field(2, "n", Kind.STRING))),
        ),
    }
    full = Compatibility.FULL
    return {
        name: (
            not avro_evolution.problems(old, new, full),
            not protobuf_evolution.problems(before, after, full),
        )
        for name, (old, new, before, after) in table.items()
    }


def judge(
    arms: Sequence[Format],
    measured: Mapping[str, Measured],
    written: Mapping[str, Sequence[bytes]],
    survived: Mapping[str, tuple[bool, bool]],
) -> Result:
    """The arms, and what is claimed of them."""
    control = median(measured["JSON"].cpu_us)
    shown = [
        Arm(
            one.name,
            one.role,
            {
                "bytes_an_order": round(_mean(measured[one.name]), 1),
                "bytes_an_order_in_zipped_batch": round(measured[one.name].batch_gzip / BATCH, 1),
                "cpu_beside_json": round(median(measured[one.name].cpu_us) / control, 2),
            },
            ((float(number), _mean(measured[one.name])),),
        )
        for number, one in enumerate(arms)
    ]
    return Result(
        arms=tuple(shown),
        shape=(*_size_claims(measured, written), *_other_claims(measured, survived)),
        plot=Plot(Axis("format"), Axis("bytes an order, mean"), "bars"),
        notes=(
            "An order's id is a text of 36 bytes in every arm; as 16 raw bytes it would be less, "
            "in the formats that have raw bytes.",
            "CPU is for writing and reading plain mappings. Code made from a schema, which keeps "
            "messages as objects, spends less with Protobuf's library than is shown here.",
        ),
    )


def _mean(measured: Measured) -> float:
    return sum(measured.bytes_each) / len(measured.bytes_each)


def _size_claims(
    measured: Mapping[str, Measured], written: Mapping[str, Sequence[bytes]]
) -> tuple[Claim, ...]:
    names = ("Avro, fastavro", "Protobuf, library", "MessagePack", "JSON")
    avro, protobuf, packed, plain = (measured[name] for name in names)
    each = list(zip(*(one.bytes_each for one in (avro, protobuf, packed, plain)), strict=True))
    ordered = sum(a < b < c < d for a, b, c, d in each)
    zipped = [one.batch_gzip / BATCH for one in (avro, plain)]
    same = sum(
        ours == theirs
        for name, library in (("Avro, ours", names[0]), ("Protobuf, ours", names[1]))
        for ours, theirs in zip(written[name], written[library], strict=True)
    )
    return (
        Claim(
            "Of every order Avro takes the fewest bytes, then Protobuf, MessagePack, JSON.",
            ordered == len(each),
            f"so for {ordered} of {len(each)}: {_mean(avro):.0f} < {_mean(protobuf):.0f} < "
            f"{_mean(packed):.0f} < {_mean(plain):.0f} bytes",
        ),
        Claim(
            "Without names an order takes less than half of JSON's bytes; with them, more.",
            _mean(protobuf) < _mean(plain) / 2 < _mean(packed),
            f"{_mean(protobuf) / _mean(plain):.2f} Protobuf, "
            f"{_mean(packed) / _mean(plain):.2f} MessagePack",
        ),
        Claim(
            "Zipped in batches of 100, JSON is less than twice as large as Avro.",
            1 < zipped[1] / zipped[0] < 2 < _mean(plain) / _mean(avro),
            f"{zipped[1] / zipped[0]:.2f} times; {_mean(plain) / _mean(avro):.2f} times before",
        ),
        Claim(
            "The bytes that are written out here are those of the libraries.",
            same == 2 * len(each),
            f"{same} of {2 * len(each)} orders",
        ),
    )


def _other_claims(
    measured: Mapping[str, Measured], survived: Mapping[str, tuple[bool, bool]]
) -> tuple[Claim, ...]:
    times = {
        name: median(measured[f"{name}, ours"].cpu_us) / median(measured[f"{name}, {peer}"].cpu_us)
        for name, peer in (("Protobuf", "library"), ("Avro", "fastavro"))
    }
    avro = [name for name, (fine, _) in survived.items() if fine]
    protobuf = [name for name, (_, fine) in survived.items() if fine]
    return (
        Claim(
            "The same bytes cost at least twice the CPU where plain Python makes them.",
            min(times.values()) >= 2,
            ", ".join(f"{name} {ratio:.1f} times its library" for name, ratio in times.items()),
        ),
        Claim(
            "Of five changes Avro lets two be deployed in any order, and Protobuf four.",
            (len(avro), len(protobuf), len(survived)) == (2, 4, 5),
            f"Avro: {', '.join(avro)}. Protobuf: {', '.join(protobuf)}",
        ),
    )


EXPERIMENT = Experiment(
    slug="serialization",
    question="How many bytes and how much CPU does an order cost in each format?",
    varied="the format, and who wrote its code",
    fixed="the same orders, written and read by one thread, arms in turns",
    run=run,
    topics=("C5",),
)
