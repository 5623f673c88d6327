"""The data of an event as bytes, in three formats behind one small interface.

Promises (the contract suite cites them)
    C1  What was encoded is decoded to the same mapping, optional members filled in.
    C2  Bytes of an older or newer revision that is compatible are read as the reader's own.
    C3  Data that do not fit the schema are InvalidInput, and nothing is written.
    C4  Bytes that are no such message are WrongSchema or InvalidUtf8, never another exception.

Differences that stay: JSON checks names and types of what it reads; Protobuf checks types on the
wire and fills in zeros, so bytes of another message may read as a wrong one; Avro needs the
revision that wrote, and only bytes that fit it by chance read as a wrong value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from month3_messaging.codecs import avro, protobuf
from month3_messaging.codecs.avro_schema import Schema
from month3_messaging.codecs.errors import InvalidUtf8, WrongSchema
from month3_messaging.codecs.evolution import Revisions
from month3_messaging.codecs.protobuf import MessageType
from scalelab.errors import InvalidInput


class Codec(Protocol):
    """One format for the data of one event type."""

    @property
    def content_type(self) -> str:
        """What stands in the `content-type` header."""
        ...

    @property
    def revision(self) -> int:
        """The revision that `encode` writes."""
        ...

    def encode(self, data: Mapping[str, object]) -> bytes:
        """The bytes of `data`. Raises InvalidInput naming the member that does not fit."""
        ...

    def decode(self, value: bytes, written: int) -> dict[str, object]:
        """The data in bytes of the revision `written`.

        Raises WrongSchema, InvalidUtf8, or UnknownVersion where the format needs the writer's
        schema.
        """
        ...


class JsonModel(BaseModel):
    """Base of models for JsonCodec: strict about types, silent about members it does not know."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class JsonCodec:
    """JSON checked by a model. See Codec; revisions differ in the model only."""

    content_type = "application/json"

    def __init__(self, model: type[JsonModel], revision: int = 1) -> None:
        self.revision = revision
        self._model = model

    def encode(self, data: Mapping[str, object]) -> bytes:
        """Compact, members in the order of the model."""
        unknown = data.keys() - self._model.model_fields.keys()
        if unknown:
            raise InvalidInput(
                f"{self._model.__name__} has no {min(unknown)!r}", field=min(unknown)
            )
        try:
            checked = self._model.model_validate(dict(data))
            return checked.model_dump_json().encode()
        except ValidationError as error:
            raise InvalidInput(_told(error), field=_place(error)) from error
        except (ValueError, UnicodeEncodeError) as error:
            raise InvalidInput(f"data cannot be JSON: {error}") from error

    def decode(self, value: bytes, written: int) -> dict[str, object]:
        """Members of any revision are met by name; `written` is not needed."""
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise InvalidUtf8(f"JSON is not UTF-8 at byte {error.start}") from error
        try:
            return self._model.model_validate_json(text).model_dump()
        except ValidationError as error:
            raise WrongSchema(_told(error)) from error


class ProtobufCodec:
    """Protobuf. See Codec; a reader steps over what it does not know."""

    content_type = "application/protobuf"

    def __init__(self, revisions: Revisions[MessageType], revision: int | None = None) -> None:
        self.revision = revisions.latest if revision is None else revision
        self._message = revisions.schema(self.revision)

    def encode(self, data: Mapping[str, object]) -> bytes:
        """Fields in the order of their numbers; zeros are left out."""
        return protobuf.encode(self._message, data)

    def decode(self, value: bytes, written: int) -> dict[str, object]:
        """Fields of any revision are met by number; `written` is not needed."""
        return protobuf.decode(self._message, value)


class AvroCodec:
    """Avro. See Codec; the schema that wrote is looked up by its revision."""

    content_type = "application/avro"

    def __init__(self, revisions: Revisions[Schema], revision: int | None = None) -> None:
        self.revision = revisions.latest if revision is None else revision
        self._revisions = revisions
        self._schema = revisions.schema(self.revision)

    def encode(self, data: Mapping[str, object]) -> bytes:
        """Fields in the order of the schema, and nothing between them."""
        return avro.encode(self._schema, data)

    def decode(self, value: bytes, written: int) -> dict[str, object]:
        """Raises UnknownVersion for a revision this reader was not given."""
        decoded = avro.decode(self._revisions.schema(written), self._schema, value)
        return cast("dict[str, object]", decoded)


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{_place(error)}: {first['msg']}"


def _place(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"]) or "data"
