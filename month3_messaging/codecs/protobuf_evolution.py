"""Whether a reader with one Protobuf message type understands what another one wrote; why not.

Theory of operation
    Any reader can step over any field, and a field that is missing is a zero: so adding and
    removing are always readable, and no field can be demanded. What breaks is a number that comes
    to mean something else. Some such changes even read without error; they count like the others.

Invariants (tests cite them)
    Y1  No problems: every field that both know arrives with the value that was written.

Source: Protocol Buffers, "Updating a message type".
"""

from __future__ import annotations

from month3_messaging.codecs.evolution import Compatibility, both_ways
from month3_messaging.codecs.protobuf import WIRE_TYPES, Field, Kind, Label, MessageType


def problems(old: MessageType, new: MessageType, compatibility: Compatibility) -> list[str]:
    """What `new` would break beside `old`: in reading, and for those who come after.

    A number given up must be reserved: the next who takes it would read what is still in the log.
    """
    kept = {field.number for field in new.fields} | new.reserved
    found = both_ways(old, new, compatibility, reading_problems)
    found += [
        f"{new.name}: number {field.number} ({field.name}) is given up and not reserved"
        for field in old.fields
        if field.number not in kept
    ]
    if not old.reserved <= kept:
        found.append(f"{new.name}: numbers that were reserved no longer are")
    return found


def reading_problems(reader: MessageType, writer: MessageType) -> list[str]:
    """What does not arrive as it was written, a sentence each. Names are not compared."""
    known = {field.number: field for field in reader.fields}
    found: list[str] = []
    for written in writer.fields:
        own = known.get(written.number)
        if own is not None:
            found += _of_field(f"{reader.name}.{own.name}", own, written)
    return found


def _of_field(path: str, own: Field, written: Field) -> list[str]:
    if own.kind is not written.kind and (own.kind, written.kind) != (Kind.BYTES, Kind.STRING):
        how = "reads it as another value"
        if WIRE_TYPES[own.kind] != WIRE_TYPES[written.kind]:
            how = "refuses it"
        return [f"{path}: written as {written.kind}; a reader of {own.kind} {how}"]
    found: list[str] = []
    if written.label is Label.REPEATED and own.label is not Label.REPEATED:
        found.append(f"{path}: written repeated; a reader of one value loses or refuses the others")
    if own.message is not None and written.message is not None:
        found += reading_problems(own.message, written.message)
    return found
