"""The provider's own book: what was really charged, whatever anybody else believes.

Theory of operation
    An append-only file of JSON lines, each with a checksum. A line is written and fsynced before
    its answer leaves, so an answered charge is never forgotten, and an unanswered one may or may
    not exist: exactly the doubt a real provider leaves its clients in. At start the file is read
    into an index (by key, by charge, by order), which then decides every request.

Invariants (tests cite them)
    B1  A key makes at most one line per operation; asking again gives the same answer.
    B2  The refunds of a charge never exceed it.
    B3  seq is 1, 2, 3 … without a gap.
    B4  Bytes after the last newline were never answered and are cut off; any other damage stops
        the provider: it must not guess about money.

Absent on purpose: files and fsync (book_file.py), HTTP (provider.py), clocks and randomness.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, cast

from scalelab.errors import Conflict, CorruptData, IdempotencyMismatch, NotFound


class LineKind(StrEnum):
    """What happened to money, or did not."""

    CHARGE = "charge"
    DECLINE = "decline"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the book. at: RFC 3339 UTC. charge_id of a decline names the refused try."""

    seq: int
    at: str
    kind: LineKind
    key: str
    order_id: str
    charge_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class ChargeAsked:
    """A request to charge. amount_minor > 0."""

    key: str
    order_id: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class RefundAsked:
    """A request to refund. amount_minor None asks for all that is left."""

    key: str
    charge_id: str
    amount_minor: int | None = None


def encode(line: Line) -> bytes:
    """One JSON object and a newline; `crc` covers all other members."""
    fields = asdict(line)
    return _compact({**fields, "crc": _crc(fields)}) + b"\n"


def decode(raw: bytes, number: int) -> Line:
    """The line as it was written. Raises CorruptData naming the line number (from 1)."""
    try:
        fields = cast("dict[str, Any]", json.loads(raw))
        crc = fields.pop("crc")
        line = Line(**{**fields, "kind": LineKind(fields["kind"])})  # pyright: ignore[reportArgumentType] - checked by the checksum
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptData(f"line {number} of the book cannot be read: {error}") from error
    if crc != _crc(fields) or line.seq != number:
        raise CorruptData(f"line {number} of the book is damaged or out of place")
    return line


def read(data: bytes) -> tuple[list[Line], int]:
    """All whole lines, and how many bytes they take; the rest is a torn tail (B4).

    Raises CorruptData for damage anywhere before the tail.
    """
    whole, _newline, torn = data.rpartition(b"\n")
    if not whole and len(torn) == len(data):
        return [], 0
    lines = [decode(raw, number) for number, raw in enumerate(whole.split(b"\n"), start=1)]
    return lines, len(data) - len(torn)


class Index:
    """The book in memory. Decides synchronously; the caller makes the decided line durable."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self._tries: dict[str, Line] = {}
        self._refunds: dict[str, Line] = {}
        self._charges: dict[str, Line] = {}
        self._by_order: dict[str, list[Line]] = {}
        self._refunded: dict[str, int] = {}
        self._last_seq = 0
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Take in a line that is, or is about to be, in the file. Raises CorruptData on a gap."""
        if line.seq != self._last_seq + 1:
            raise CorruptData(f"book line {line.seq} follows {self._last_seq}")
        self._last_seq = line.seq
        if line.kind is LineKind.REFUND:
            self._refunds[line.key] = line
            earlier = self._refunded.get(line.charge_id, 0)
            self._refunded[line.charge_id] = earlier + line.amount_minor
            return
        self._tries[line.key] = line
        if line.kind is LineKind.CHARGE:
            self._charges[line.charge_id] = line
            self._by_order.setdefault(line.order_id, []).append(line)

    def charge(self, asked: ChargeAsked, *, declined: bool, charge_id: str, at: str) -> Line:
        """The line that answers a charge: an earlier one of the same key (B1), or a new one.

        A returned line with seq > the last one was decided now; the caller adds and writes it.
        Raises IdempotencyMismatch if the key belongs to another request.
        """
        earlier = self._tries.get(asked.key)
        if earlier is not None:
            then = (earlier.order_id, earlier.amount_minor, earlier.currency)
            if then != (asked.order_id, asked.amount_minor, asked.currency):
                raise IdempotencyMismatch("the key was used for another charge")
            return earlier
        kind = LineKind.DECLINE if declined else LineKind.CHARGE
        return Line(
            self._last_seq + 1,
            at,
            kind,
            asked.key,
            asked.order_id,
            charge_id,
            asked.amount_minor,
            asked.currency,
        )

    def refund(self, asked: RefundAsked, *, at: str) -> Line:
        """The line that answers a refund, like `charge`.

        Raises NotFound for an unknown charge, Conflict `refund_exceeds_charge` (B2),
        IdempotencyMismatch if the key belongs to the refund of another charge.
        """
        earlier = self._refunds.get(asked.key)
        if earlier is not None:
            if earlier.charge_id != asked.charge_id:
                raise IdempotencyMismatch("the key was used for another refund")
            return earlier
        charge = self._charges.get(asked.charge_id)
        if charge is None:
            raise NotFound("no such charge", code="unknown_charge")
        left = charge.amount_minor - self.refunded_minor(charge.charge_id)
        amount = left if asked.amount_minor is None else asked.amount_minor
        if amount > left or left == 0:
            raise Conflict(f"{left} minor units are left to refund", code="refund_exceeds_charge")
        return Line(
            self._last_seq + 1,
            at,
            LineKind.REFUND,
            asked.key,
            charge.order_id,
            charge.charge_id,
            amount,
            charge.currency,
        )

    def is_new(self, line: Line) -> bool:
        """Whether a decided line is not in the index yet."""
        return line.seq > self._last_seq

    def charges_of(self, order_id: str) -> list[Line]:
        """All charges of an order, oldest first; more than one is somebody's double charge."""
        return list(self._by_order.get(order_id, ()))

    def refunded_minor(self, charge_id: str) -> int:
        """Minor units paid back of a charge so far."""
        return self._refunded.get(charge_id, 0)


def _compact(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _crc(fields: dict[str, Any]) -> int:
    return zlib.crc32(_compact(fields))
