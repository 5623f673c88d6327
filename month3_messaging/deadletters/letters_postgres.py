"""The desk's letters and audit in PostgreSQL; a change and its line in the audit commit together.

before, after of a line: {"state", "round", "key", "headers", "value", "code", "message",
"attempts"}; a value that is no UTF-8 stands there as {"base64": …}. Of a letter that was cleaned
away one line stays: {"state", "group", "event_id", "origin", "steps": [{"at", "who", "what"}, …]}
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Json

from month3_messaging.deadletters.letter import Letter, Place, State, came_back
from scalelab.errors import Conflict, NotFound

_COLUMNS = (
    "id, consumer, origin_topic, origin_partition, origin_offset, event_id, key, headers, value,"
    " attempts, code, message, stack, state, round, version, parked_at, changed_at"
)

_SETTLED_BEFORE = (
    "SELECT id FROM dead_letter WHERE state IN ('replayed', 'discarded')"
    " AND changed_at < now() - make_interval(secs => %s)"
    " ORDER BY changed_at, id LIMIT %s FOR UPDATE SKIP LOCKED"
)
_NOTE_CLEANED = """
INSERT INTO dead_letter_audit (letter_id, who, what, before, after)
SELECT letter.id, %(who)s, 'cleaned', NULL, json_build_object(
           'state', letter.state, 'group', letter.consumer, 'event_id', letter.event_id,
           'origin', format('%%s/%%s@%%s', origin_topic, origin_partition, origin_offset),
           'steps', steps.taken)
  FROM dead_letter AS letter
 CROSS JOIN LATERAL (
           SELECT json_agg(json_build_object('at', at, 'who', who, 'what', what) ORDER BY id)
             FROM dead_letter_audit WHERE letter_id = letter.id) AS steps (taken)
 WHERE letter.id = ANY (%(ids)s)
 ORDER BY letter.id
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter as it is kept. version: grows by one with every change."""

    id: int
    version: int
    letter: Letter
    parked_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what to a letter, when; before is None for its arrival."""

    at: datetime
    who: str
    what: str
    before: dict[str, Any] | None
    after: dict[str, Any]


async def park(conn: AsyncConnection[Any], arrived: Letter, who: str) -> int | None:
    """Keep a letter that has arrived; returns its id, or None for a copy of what is known.

    Waits while another transaction parks the same event. Call it in a transaction.
    """
    cursor = await conn.execute(
        "INSERT INTO dead_letter (consumer, origin_topic, origin_partition, origin_offset,"
        " event_id, key, headers, value, attempts, code, message, stack, round)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT ON CONSTRAINT one_letter_an_event DO NOTHING RETURNING id",
        (
            arrived.group,
            _shown(arrived.origin.topic),
            arrived.origin.partition,
            arrived.origin.offset,
            arrived.event_id,
            _bytes(arrived.key),
            Json(dict(arrived.headers)),
            arrived.value,
            arrived.attempts,
            _shown(arrived.code),
            _shown(arrived.message),
            _shown(arrived.stack),
            arrived.round,
        ),
    )
    row = await cursor.fetchone()
    if row is not None:
        await _note(conn, int(row[0]), who, "parked", None, arrived)
        return int(row[0])
    kept = await _find_again(conn, arrived)
    back = came_back(kept.letter, arrived)
    if back is None:
        return None
    await _store(conn, kept, back, who, "came back")
    return kept.id


async def find(conn: AsyncConnection[Any], letter_id: int, *, lock: bool = False) -> Kept:
    """One letter. Raises NotFound `unknown_letter`."""
    cursor = conn.cursor(row_factory=dict_row)
    tail = " FOR UPDATE" if lock else ""
    await cursor.execute(f"SELECT {_COLUMNS} FROM dead_letter WHERE id = %s{tail}", (letter_id,))  # noqa: S608 - our own text
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(f"there is no letter {letter_id}", code="unknown_letter")
    return _kept(row)


async def list_letters(
    conn: AsyncConnection[Any], state: State | None, *, after: int = 0, limit: int = 50
) -> list[Kept]:
    """Letters with ids over `after`, ascending; all states for None."""
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE id > %(after)s"  # noqa: S608 - our own text
        " AND (%(state)s::text IS NULL OR state = %(state)s) ORDER BY id LIMIT %(limit)s",
        {"after": after, "state": state, "limit": limit},
    )
    return [_kept(row) for row in await cursor.fetchall()]


async def audit_of(conn: AsyncConnection[Any], letter_id: int) -> list[AuditLine]:
    """What was done to a letter, oldest first."""
    cursor = await conn.execute(
        "SELECT at, who, what, before, after FROM dead_letter_audit WHERE letter_id = %s"
        " ORDER BY id",
        (letter_id,),
    )
    return [AuditLine(*row) for row in await cursor.fetchall()]


async def change(
    conn: AsyncConnection[Any],
    letter_id: int,
    decide: Callable[[Letter], Letter],
    *,
    who: str,
    what: str,
    seen: int | None = None,
) -> Kept:
    """Apply a decision and note it; a decision that changes nothing leaves no trace.

    seen: the version it was taken on. Raises Conflict `letter_changed` if that is not the present
    one and the decision would change something; NotFound; whatever `decide` raises.
    """
    kept = await find(conn, letter_id, lock=True)
    after = decide(kept.letter)
    if after == kept.letter:
        return kept
    if seen is not None and seen != kept.version:
        raise Conflict(
            f"letter {letter_id} is at version {kept.version} by now, not at {seen}",
            code="letter_changed",
        )
    await _store(conn, kept, after, who, what)
    return await find(conn, letter_id)


async def clean(conn: AsyncConnection[Any], *, older_than_s: float, who: str, limit: int) -> int:
    """Take away at most `limit` letters that were settled longer ago, oldest first; returns how
    many. Call it in a transaction.

    A letter leaves with its lines of the audit, which hold its content too; one line stays, with
    who did what to it and when. Letters that wait for a decision, or to be sent, are not touched.
    """
    cursor = await conn.execute(_SETTLED_BEFORE, (older_than_s, limit))
    ids = [int(row[0]) for row in await cursor.fetchall()]
    if ids:
        await conn.execute(_NOTE_CLEANED, {"who": who, "ids": ids})
        await conn.execute("SET LOCAL desk.cleaning = 'on'")
        await conn.execute(
            "DELETE FROM dead_letter_audit WHERE letter_id = ANY (%s) AND what <> 'cleaned'", (ids,)
        )
        await conn.execute("SET LOCAL desk.cleaning = 'off'")
        await conn.execute("DELETE FROM dead_letter WHERE id = ANY (%s)", (ids,))
    return len(ids)


async def _find_again(conn: AsyncConnection[Any], arrived: Letter) -> Kept:
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE consumer = %s AND origin_topic = %s"  # noqa: S608 - our own text
        " AND origin_partition = %s AND origin_offset = %s AND event_id = %s FOR UPDATE",
        (
            arrived.group,
            _shown(arrived.origin.topic),
            arrived.origin.partition,
            arrived.origin.offset,
            arrived.event_id,
        ),
    )
    row = await cursor.fetchone()
    if row is None:
        raise Conflict("the letter went away", code="serialization_failure")
    return _kept(row)


async def _store(
    conn: AsyncConnection[Any], kept: Kept, after: Letter, who: str, what: str
) -> None:
    await conn.execute(
        "UPDATE dead_letter SET key = %s, headers = %s, value = %s, attempts = %s, code = %s,"
        " message = %s, stack = %s, state = %s, round = %s, version = version + 1,"
        " changed_at = now() WHERE id = %s",
        (
            _bytes(after.key),
            Json(dict(after.headers)),
            after.value,
            after.attempts,
            _shown(after.code),
            _shown(after.message),
            _shown(after.stack),
            after.state,
            after.round,
            kept.id,
        ),
    )
    await _note(conn, kept.id, who, what, kept.letter, after)


async def _note(
    conn: AsyncConnection[Any],
    letter_id: int,
    who: str,
    what: str,
    before: Letter | None,
    after: Letter,
) -> None:
    await conn.execute(
        "INSERT INTO dead_letter_audit (letter_id, who, what, before, after)"
        " VALUES (%s, %s, %s, %s, %s)",
        (letter_id, who, what, Json(_told(before)) if before else None, Json(_told(after))),
    )


def _told(letter: Letter) -> dict[str, Any]:
    return {
        "state": letter.state.value,
        "round": letter.round,
        "key": letter.key,
        "headers": dict(letter.headers),
        "value": as_text(letter.value),
        "code": letter.code,
        "message": letter.message,
        "attempts": letter.attempts,
    }


def as_text(value: bytes) -> str | dict[str, str]:
    """The value for a person: its text, or `{"base64": …}` where it is none."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _kept(row: dict[str, Any]) -> Kept:
    key = row["key"]
    letter = Letter(
        group=row["consumer"],
        origin=Place(row["origin_topic"], row["origin_partition"], row["origin_offset"]),
        event_id=UUID(str(row["event_id"])),
        key=None if key is None else bytes(key).decode(),
        headers=row["headers"],
        value=bytes(row["value"]),
        attempts=row["attempts"],
        code=row["code"],
        message=row["message"],
        stack=row["stack"],
        state=State(row["state"]),
        round=row["round"],
    )
    return Kept(row["id"], row["version"], letter, row["parked_at"], row["changed_at"])


def _bytes(key: str | None) -> bytes | None:
    return None if key is None else key.encode()


def _shown(text: str) -> str:
    """A text that a column takes: PostgreSQL has no NUL."""
    return text.replace("\0", "\ufffd")
