"""The two witnesses that are files: the provider's book and the client's log.

Both are written line by line while they may be read, so an unfinished last line is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from month6_capstone.truth.records import Attempt, BookLine
from scalelab.errors import CorruptData


def read_book(path: Path) -> tuple[BookLine, ...]:
    """The provider's book; a file that does not exist is a provider that was never asked."""
    return tuple(
        BookLine(
            seq=fields["seq"],
            kind=fields["kind"],
            key=fields["key"],
            order_id=fields["order_id"],
            charge_id=fields["charge_id"],
            amount_minor=fields["amount_minor"],
            currency=fields["currency"],
        )
        for fields in _lines(path, need=BookLine.__slots__)
    )


def read_client_log(path: Path | None) -> tuple[Attempt, ...] | None:
    """The client's log, or None if no client kept one."""
    if path is None:
        return None
    return tuple(
        Attempt(
            user_id=fields["user_id"],
            key=fields["key"],
            attempt=fields["attempt"],
            outcome=fields["outcome"],
            status=fields["status"],
            order_id=fields["order_id"],
        )
        for fields in _lines(path, need=Attempt.__slots__)
    )


def order_id_in(body: str) -> str | None:
    """The order that a stored answer names, if it names one."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    order_id = cast("dict[str, Any]", document).get("order_id")
    return order_id if isinstance(order_id, str) else None


def _lines(path: Path, *, need: object) -> list[dict[str, Any]]:
    """Every finished line as an object. Raises CorruptData naming the line that is none."""
    if not path.exists():
        return []
    found: list[dict[str, Any]] = []
    finished, _newline, _unfinished = path.read_bytes().rpartition(b"\n")
    names = set(cast("tuple[str, ...]", need))
    for number, raw in enumerate(finished.splitlines(), start=1):
        try:
            fields = cast("dict[str, Any]", json.loads(raw))
            missing = names - fields.keys()
        except (ValueError, AttributeError) as error:
            raise CorruptData(f"{path}: line {number} cannot be read") from error
        if missing:
            raise CorruptData(f"{path}: line {number} lacks {', '.join(sorted(missing))}")
        found.append(fields)
    return found
