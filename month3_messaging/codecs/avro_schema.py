"""Avro schemas as values: parsed once from their JSON, checked, never changed.

Absent on purpose: namespaces, fixed, map, logical types, records that contain themselves (a
value nests no deeper than its schema), and arrays of items without bytes.
Source: Apache Avro 1.11 specification, "Schema declaration".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from scalelab.errors import InvalidInput

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "double", "string", "bytes"})
INT, LONG = range(-(1 << 31), 1 << 31), range(-(1 << 63), 1 << 63)
"""What the numbers may be."""


@dataclass(frozen=True, slots=True)
class Primitive:
    """kind: one of PRIMITIVES."""

    kind: str


@dataclass(frozen=True, slots=True)
class Array:
    """items: the schema of each."""

    items: Schema


@dataclass(frozen=True, slots=True)
class Enum:
    """symbols in the order of their numbers. default: what a reader takes an unknown one for."""

    name: str
    symbols: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Union:
    """branches: the first that a value fits is its own; none is a union."""

    branches: tuple[Schema, ...]


@dataclass(frozen=True, slots=True)
class RecordField:
    """aliases: names that writers gave it. default: (value,) for writers who lack it, else ()."""

    name: str
    schema: Schema
    aliases: tuple[str, ...] = ()
    default: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """fields stand in the order of their bytes."""

    name: str
    fields: tuple[RecordField, ...]


Schema = Primitive | Array | Enum | Union | Record

NULL = Primitive("null")


def parse_schema(text: str) -> Schema:
    """The schema in a JSON text. Raises InvalidInput naming what is wrong or not supported."""
    try:
        document: object = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"a schema is not JSON: {error}", field="schema") from error
    return _Parser().parse(document)


def kind_of(schema: Schema) -> str:
    """The type's name: `long`, `array`, `record` …"""
    match schema:
        case Primitive(kind):
            return kind
        case _:
            return type(schema).__name__.lower()


def takes_bytes(schema: Schema) -> bool:
    """Whether every value has at least one byte."""
    if isinstance(schema, Record):
        return any(takes_bytes(field.schema) for field in schema.fields)
    return schema != NULL


def fits(schema: Schema, value: object) -> bool:
    """Whether `value` can be a value of `schema`, looking no deeper than a union's choice needs."""
    match schema, value:
        case Primitive("null"), None:
            return True
        case Primitive("boolean"), bool():
            return True
        case Primitive("int"), int() if not isinstance(value, bool):
            return value in INT
        case Primitive("long"), int() if not isinstance(value, bool):
            return value in LONG
        case Primitive("double"), float() | int() if not isinstance(value, bool):
            return True
        case (Primitive("string"), str()) | (Primitive("bytes"), bytes()) | (Array(), list()):
            return True
        case Enum(_, symbols), str():
            return value in symbols
        case Record(_, fields), Mapping():
            return all(field.name in value or field.default for field in fields)
        case Union(branches), _:
            return any(fits(branch, value) for branch in branches)
        case _:
            return False


class _Parser:
    """Remembers the names that were declared: a later mention means the same type."""

    def __init__(self) -> None:
        self._named: dict[str, Schema] = {}

    def parse(self, document: object) -> Schema:
        match document:
            case str():
                if document in PRIMITIVES:
                    return Primitive(document)
                if document in self._named:
                    return self._named[document]
                raise InvalidInput(f"no type is called {document!r}", field="type")
            case list():
                return self._union(cast("list[object]", document))
            case dict():
                return self._complex(cast("dict[str, object]", document))
            case _:
                raise InvalidInput(f"{document!r} is no schema", field="type")

    def _union(self, documents: Sequence[object]) -> Schema:
        branches = tuple(self.parse(document) for document in documents)
        kinds = [one.name if isinstance(one, Record | Enum) else kind_of(one) for one in branches]
        if not branches or "union" in kinds or len(set(kinds)) < len(kinds):
            raise InvalidInput("a union needs different types, none a union", field="type")
        return Union(branches)

    def _complex(self, document: Mapping[str, object]) -> Schema:
        kind = document.get("type")
        if kind == "array":
            items = self.parse(document.get("items"))
            if not takes_bytes(items):
                raise InvalidInput(
                    "items that take no bytes could be without number", field="items"
                )
            return Array(items)
        if kind == "enum":
            symbols = tuple(_texts(document.get("symbols")))
            default = document.get("default")
            name = _name(document)
            if not symbols or len(set(symbols)) < len(symbols):
                raise InvalidInput(f"{name} needs symbols, each once", field="symbols")
            if default is not None and default not in symbols:
                raise InvalidInput(f"{default!r} is no symbol of {name}", field="default")
            return self._declare(name, Enum(name, symbols, cast("str | None", default)))
        if kind == "record":
            name = _name(document)
            fields = document.get("fields")
            if not isinstance(fields, list):
                raise InvalidInput(f"{name} has no list of fields", field="fields")
            parsed = tuple(self._field(item) for item in cast("list[object]", fields))
            if len({field.name for field in parsed}) < len(parsed):
                raise InvalidInput(f"{name} has a field twice", field="fields")
            return self._declare(name, Record(name, parsed))
        return self.parse(kind)

    def _field(self, item: object) -> RecordField:
        if not isinstance(item, dict):
            raise InvalidInput("a field is no object", field="fields")
        document = cast("dict[str, object]", item)
        default = (document["default"],) if "default" in document else ()
        aliases = tuple(_texts(document.get("aliases", [])))
        name, schema = _name(document), self.parse(document.get("type"))
        if default and not fits(schema, default[0]):
            raise InvalidInput(f"the default of {name} is no value of it", field="default")
        return RecordField(name, schema, aliases, default)

    def _declare(self, name: str, schema: Schema) -> Schema:
        if name in self._named or name in PRIMITIVES:
            raise InvalidInput(f"{name} is declared twice", field="name")
        self._named[name] = schema
        return schema


def _name(document: Mapping[str, object]) -> str:
    name = document.get("name")
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise InvalidInput(f"{name!r} is not a name", field="name")
    return name


def _texts(value: object) -> list[str]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    texts = [item for item in items if isinstance(item, str)]
    if not isinstance(value, list) or len(texts) < len(items):
        raise InvalidInput(f"{value!r} is no list of names", field="symbols")
    return texts
