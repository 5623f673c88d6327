"""Which change of a schema may be published: revisions in a row, each checked against the others.

Theory of operation
    Messages outlive the programs that wrote them, and programs are not replaced all at once. So
    two questions are asked of every new revision: does a reader of it understand what older
    writers wrote (backward), and does an older reader understand what its writers write (forward).
    They are asked about *every* older revision, because a log keeps messages of them all.

Source: Kleppmann 2017, "Designing Data-Intensive Applications", chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, TypeVar

from month3_messaging.codecs.errors import IncompatibleSchema, UnknownVersion
from scalelab.errors import InvalidInput

S = TypeVar("S")


class Compatibility(StrEnum):
    """backward: deploy readers first. forward: deploy writers first. full: in any order."""

    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"


Problems = Callable[[S, S, Compatibility], list[str]]
"""(old, new, compatibility) -> what `new` would break beside `old`, a sentence each."""


def both_ways(
    old: S, new: S, compatibility: Compatibility, reading_problems: Callable[[S, S], list[str]]
) -> list[str]:
    """The answers to the questions that `compatibility` asks.

    reading_problems: (reader, writer) -> what the reader does not understand.
    """
    found: list[str] = []
    if compatibility is not Compatibility.FORWARD:
        found += [f"backward: {told}" for told in reading_problems(new, old)]
    if compatibility is not Compatibility.BACKWARD:
        found += [f"forward: {told}" for told in reading_problems(old, new)]
    return found


class Revisions(Generic[S]):
    """The revisions of one schema, numbered from 1; immutable.

    Raises IncompatibleSchema for the first revision that breaks with an earlier one, and
    InvalidInput when there is none at all.
    """

    def __init__(
        self,
        *schemas: S,
        problems: Problems[S],
        compatibility: Compatibility = Compatibility.FULL,
    ) -> None:
        if not schemas:
            raise InvalidInput("a schema needs a first revision", field="schemas")
        for number, new in enumerate(schemas, 1):
            for earlier, old in enumerate(schemas[: number - 1], 1):
                found = problems(old, new, compatibility)
                if found:
                    raise IncompatibleSchema(
                        f"revision {number} breaks with revision {earlier}: {'; '.join(found)}",
                        tuple(found),
                    )
        self._schemas = schemas

    @property
    def latest(self) -> int:
        """The number of the newest revision."""
        return len(self._schemas)

    def schema(self, revision: int) -> S:
        """The schema of a revision. Raises UnknownVersion for one that is not here."""
        if not 1 <= revision <= len(self._schemas):
            raise UnknownVersion(f"revision {revision} is not among 1 to {len(self._schemas)}")
        return self._schemas[revision - 1]
