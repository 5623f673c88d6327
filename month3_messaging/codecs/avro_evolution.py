"""Whether a reader with one Avro schema understands what another one wrote; why not.

Theory of operation
    Schemas are compared as a reader would resolve them, for every value the writer could write: a
    union's branch that nobody has used yet counts, too.

Invariants (tests cite them)
    X1  No problems: everything the writer can write is read (V2 of avro.py).
    X2  Some problem: something the writer can write is refused by the reader.

Source: Apache Avro 1.11 specification, "Schema resolution".
"""

from __future__ import annotations

from month3_messaging.codecs.avro import WIDER, branch_for, meeting
from month3_messaging.codecs.avro_schema import (
    Array,
    Enum,
    Primitive,
    Record,
    Schema,
    Union,
    kind_of,
)
from month3_messaging.codecs.errors import WrongSchema
from month3_messaging.codecs.evolution import Compatibility, both_ways


def problems(old: Schema, new: Schema, compatibility: Compatibility) -> list[str]:
    """What `new` would break beside `old`, a sentence each; empty when it may be published."""
    return both_ways(old, new, compatibility, reading_problems)


def reading_problems(reader: Schema, writer: Schema, path: str = "value") -> list[str]:
    """What a reader cannot read of what the writer can write, a sentence each."""
    if isinstance(writer, Union):
        return [
            problem
            for branch in writer.branches
            for problem in reading_problems(reader, branch, path)
        ]
    if isinstance(reader, Union):
        try:
            return reading_problems(branch_for(writer, reader), writer, path)
        except WrongSchema:
            return [f"{path}: {kind_of(writer)} is in no branch of the reader's union"]
    match writer, reader:
        case Primitive(written), Primitive(wanted):
            if wanted == written or wanted in WIDER.get(written, ()):
                return []
        case Enum(_, symbols), Enum(_, known, default):
            missing = sorted(set(symbols) - set(known))
            if missing and default is None:
                return [f"{path}: the reader lacks {', '.join(missing)} and has no default"]
            return []
        case Array(written), Array(wanted):
            return reading_problems(wanted, written, f"{path}[]")
        case Record(), Record():
            return _of_records(reader, writer, path)
        case _:
            pass
    return [f"{path}: {kind_of(writer)} cannot be read as {kind_of(reader)}"]


def _of_records(reader: Record, writer: Record, path: str) -> list[str]:
    met = meeting(writer, reader)
    found: list[str] = []
    for field in writer.fields:
        own = met.get(field.name)
        if own is not None:
            found += reading_problems(own.schema, field.schema, f"{path}.{own.name}")
    taken = {field.name for field in met.values()}
    found += [
        f"{path}.{field.name}: the writer lacks it and the reader has no default"
        for field in reader.fields
        if field.name not in taken and not field.default
    ]
    return found
