"""What client and server say to each other over a WebSocket: small JSON objects. Pure.

Client:  {"type":"follow","order_id":"…","after":2}     after: its last version; absent: none
         {"type":"unfollow","order_id":"…"}
Server:  {"type":"status","order_id":"…","status":"paid","version":2,"at":"…"}
         {"type":"ended","order_id":"…"}                nothing can follow; no longer followed
         {"type":"refused","order_id":"…","code":"unknown_order","detail":"…"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from month3_messaging.orders import StatusChange
from month3_messaging.status.client_queue import Update
from month3_messaging.status.frames import Opcode, encode
from scalelab.errors import InvalidInput, ScalelabError

COMMAND_LIMIT = 1024
"""Bytes of one command."""
_VERSION_MAX = 999_999_999


@dataclass(frozen=True, slots=True)
class Follow:
    """Tell me about the order, from the version after `after`."""

    order_id: UUID
    after: int


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Tell me no more about the order."""

    order_id: UUID


def read_command(data: bytes) -> Follow | Unfollow:
    """Raises InvalidInput: not JSON, another shape, an id or a version that nobody gave out."""
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("a command is a JSON object", code="malformed_json") from error
    if not isinstance(document, dict):
        raise InvalidInput("a command is a JSON object")
    fields = cast("dict[str, object]", document)
    kind, named, after = fields.get("type"), fields.get("order_id"), fields.get("after", 0)
    try:
        order_id = UUID(named) if isinstance(named, str) else None
    except ValueError:
        order_id = None
    if order_id is None:
        raise InvalidInput("a UUID", field="order_id")
    if kind == "unfollow":
        return Unfollow(order_id)
    if kind != "follow":
        raise InvalidInput("follow or unfollow", field="type")
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after <= _VERSION_MAX:
        raise InvalidInput("a version that was handed out", field="after")
    return Follow(order_id, after)


def status_frame(update: Update) -> bytes:
    """The frame of one update."""
    return change_frame(update.order_id, update.change)


def change_frame(order_id: UUID, change: StatusChange) -> bytes:
    """The frame of one change of an order."""
    return _frame(
        type="status",
        order_id=str(order_id),
        status=change.status.value,
        version=change.version,
        at=change.at.isoformat(),
    )


def ended_frame(order_id: UUID) -> bytes:
    """The frame that says nothing can follow."""
    return _frame(type="ended", order_id=str(order_id))


def refused_frame(order_id: UUID | None, error: ScalelabError) -> bytes:
    """The frame that answers a command which changed nothing."""
    return _frame(
        type="refused",
        order_id=None if order_id is None else str(order_id),
        code=error.stable_code,
        detail=error.message[:200],
    )


def _frame(**fields: object) -> bytes:
    return encode(Opcode.TEXT, json.dumps(fields, separators=(",", ":")).encode())
