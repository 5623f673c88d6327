"""What can be wrong with bytes that came with a schema, each with a stable code."""

from __future__ import annotations

from typing import ClassVar

from scalelab.errors import Conflict, CorruptData


class UnknownContentType(CorruptData):
    """No codec for the `content-type` of a message."""

    code: ClassVar[str] = "unknown_content_type"


class UnknownType(CorruptData):
    """An event type that nobody told this reader of."""

    code: ClassVar[str] = "unknown_type"


class UnknownVersion(CorruptData):
    """A version of a type, or a revision of its schema, that this reader does not have."""

    code: ClassVar[str] = "unknown_version"


class WrongSchema(CorruptData):
    """The bytes were not written with the schema they are read with, or are damaged."""

    code: ClassVar[str] = "wrong_schema"


class InvalidUtf8(CorruptData):
    """A text whose bytes are no UTF-8."""

    code: ClassVar[str] = "invalid_utf8"


class IncompatibleSchema(Conflict):
    """A new revision would break readers or what is stored. problems: one sentence each."""

    code: ClassVar[str] = "incompatible_schema"

    def __init__(self, message: str, problems: tuple[str, ...]) -> None:
        super().__init__(message)
        self.problems = problems
