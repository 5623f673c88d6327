"""Types of messages as plain tables: what both encodings of a message are read off.

A message is a dict from field names to values; what is not in it has the default (0, false, empty).
There is no class a message: the two codecs beside this file need only the tables.
Source: Protocol Buffers, language version 3; the part of it that etcd's messages use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Message = dict[str, Any]


class Kind(Enum):
    """How a field's value is written. CHOICE is an enumeration, PART a message in a message."""

    INT64 = "int64"
    UINT64 = "uint64"
    UINT32 = "uint32"
    BOOL = "bool"
    BYTES = "bytes"
    TEXT = "string"
    CHOICE = "enum"
    PART = "message"


@dataclass(frozen=True, slots=True)
class Field:
    """number: on the wire, for ever. many: a list. names: of a CHOICE, by value. of: of a PART."""

    name: str
    number: int
    kind: Kind
    many: bool = False
    names: tuple[str, ...] = ()
    of: str = ""

    @property
    def camel(self) -> str:
        """The other spelling that JSON may use: range_end is rangeEnd as well."""
        head, *rest = self.name.split("_")
        return head + "".join(part[:1].upper() + part[1:] for part in rest)


@dataclass(frozen=True, slots=True)
class MessageType:
    """A message's fields, in the order in which they are written."""

    name: str
    fields: tuple[Field, ...]
    by_number: dict[int, Field] = field(init=False, repr=False, compare=False)
    by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spellings = {one.camel: one for one in self.fields} | {one.name: one for one in self.fields}
        object.__setattr__(self, "by_number", {one.number: one for one in self.fields})
        object.__setattr__(self, "by_name", spellings)


class Schema:
    """Message types by name; parts of a message are found here, so that types may nest."""

    def __init__(self, *types: MessageType) -> None:
        self.types = {one.name: one for one in types}

    def __getitem__(self, name: str) -> MessageType:
        return self.types[name]
