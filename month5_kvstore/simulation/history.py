"""What clients did and saw, and the register they believe they speak to.

The history is judged by a checker that knows no Raft: is there an order of all calls, each at one
instant between its start and its end, in which one register could have answered like this?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalelab.errors import CorruptData

Answer = int | bool | None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its client saw it. called_at, returned_at: virtual µs; returned_at None: no
    answer came, so it may take effect at any time, or never. answer: the value read (0: none
    yet), or whether a `cas` swapped; None for a `put`."""

    number: int
    key: str
    verb: str
    arguments: tuple[int, ...]
    called_at: int
    returned_at: int | None
    answer: Answer


Judge = Callable[[Sequence[Call]], str | None]
"""Takes all calls; a complaint in words, or None if the history is linearizable."""


def apply_call(value: int, call: Call) -> int | None:
    """The register's value after `call`, or None if it could not have been answered so.

    A call without an answer may have had any.
    """
    match call.verb:
        case "put":
            return call.arguments[0]
        case "get":
            return value if call.returned_at is None or call.answer == value else None
        case _:
            expected, wanted = call.arguments
            swapped = value == expected
            if call.returned_at is not None and call.answer is not swapped:
                return None
            return wanted if swapped else value


def needed_value(call: Call) -> int | None:
    """The only value in which `call` can have been answered so; None if there are others."""
    if call.returned_at is None or call.verb == "put":
        return None
    if call.verb == "get":
        return int(call.answer) if call.answer is not None else None
    return call.arguments[0] if call.answer else None


def made_value(call: Call) -> int | None:
    """The value that `call` leaves if it changes anything."""
    if call.verb == "get" or call.answer is False:
        return None
    return call.arguments[-1]


class Registers:
    """The state machine of the simulated nodes: integers by key, 0 where nothing was written."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    def apply(self, command: bytes) -> Answer:
        """Carry out what `encode_command` wrote."""
        key, verb, *words = command.decode("ascii").split()
        if verb == "put":
            self.values[key] = int(words[0])
            return None
        expected, wanted = int(words[0]), int(words[1])
        if self.values.get(key, 0) != expected:
            return False
        self.values[key] = wanted
        return True

    def read(self, key: str) -> int:
        """The value of `key`."""
        return self.values.get(key, 0)

    def save(self) -> bytes:
        """All of it, the same bytes for the same content."""
        return json.dumps(self.values, sort_keys=True).encode("ascii")

    def load(self, data: bytes) -> None:
        """Become what `save` wrote; empty bytes are the beginning."""
        loaded: object = json.loads(data) if data else {}
        if not isinstance(loaded, dict):
            raise CorruptData("a snapshot of registers is an object")
        self.values = {str(key): int(value) for key, value in loaded.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - checked by int()


def encode_command(key: str, verb: str, arguments: tuple[int, ...]) -> bytes:
    """A `put` or `cas` as an entry carries it."""
    return " ".join((key, verb, *map(str, arguments))).encode("ascii")
