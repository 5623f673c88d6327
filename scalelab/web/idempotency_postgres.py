"""Idempotency records in PostgreSQL, inside the transaction of the effect.

Use, all on one connection in one READ COMMITTED transaction:

    await claim(conn, scope)                        # one request at a time per scope
    stored = await find(conn, scope, print_)        # answered before? then replay
    ...the effect...
    await save(conn, scope, print_, answer, now)    # commits with the effect

`claim_and_find` does the first two in one round trip, and SAVE may be part of a larger statement.

The claim is an advisory lock that ends with the transaction, so a crash at any point leaves
neither lock nor half a record. The primary key stands behind it: even a caller that forgets to
claim cannot store two answers. Two scopes share a lock with probability 2**-64; the loser is
told to try again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from scalelab.errors import Conflict, IdempotencyMismatch
from scalelab.web.idempotency import Scope, StoredAnswer

DDL = """
CREATE TABLE IF NOT EXISTS idempotency_key (
    user_id     text        NOT NULL,
    route       text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    status      smallint    NOT NULL,
    headers     jsonb       NOT NULL,
    body        bytea       NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, route, key)
);
CREATE INDEX IF NOT EXISTS idempotency_key_created_at ON idempotency_key (created_at);
"""

PURGE_BATCH = 5000
"""Rows one purge deletes at most, so that it never holds locks for long."""


async def claim(conn: AsyncConnection[Any], scope: Scope) -> None:
    """Take the scope for this transaction; Conflict (idempotency_in_flight) if another has it."""
    cursor = conn.cursor(row_factory=tuple_row)
    await cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (lock_id(scope),))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        raise _in_flight()


async def find(conn: AsyncConnection[Any], scope: Scope, fingerprint: bytes) -> StoredAnswer | None:
    """The answer stored for the scope, or None. IdempotencyMismatch if its body was another."""
    cursor = conn.cursor(row_factory=tuple_row)
    await cursor.execute(
        "SELECT fingerprint, status, headers, body FROM idempotency_key"
        " WHERE user_id = %s AND route = %s AND key = %s",
        (scope.user, scope.route, scope.key),
    )
    row = await cursor.fetchone()
    return None if row is None else _stored(row, fingerprint)


async def claim_and_find(
    conn: AsyncConnection[Any], scope: Scope, fingerprint: bytes
) -> StoredAnswer | None:
    """`claim`, then `find`, in one statement; raises what they raise.

    An answer that is committed in the instant between the statement's snapshot and its claim is
    not seen. Then SAVE meets it, and the caller is told to try again as after a lost claim.
    """
    cursor = conn.cursor(row_factory=tuple_row)
    await cursor.execute(
        "SELECT fingerprint, status, headers, body, claimed"
        " FROM pg_try_advisory_xact_lock(%s) AS claimed LEFT JOIN idempotency_key"
        " ON user_id = %s AND route = %s AND key = %s",
        (lock_id(scope), scope.user, scope.route, scope.key),
    )
    row = await cursor.fetchone()
    if row is None or not row[-1]:
        raise _in_flight()
    return None if row[0] is None else _stored(row[:-1], fingerprint)


SAVE = """
INSERT INTO idempotency_key (user_id, route, key, fingerprint, status, headers, body, created_at)
VALUES (%(idem_user)s, %(idem_route)s, %(idem_key)s, %(idem_fingerprint)s, %(idem_status)s,
        %(idem_headers)s, %(idem_body)s, %(idem_now)s)
"""
"""What `save` executes, with the parameters of `to_save`; also as a CTE, under `one_answer`."""


async def save(
    conn: AsyncConnection[Any],
    scope: Scope,
    fingerprint: bytes,
    answer: StoredAnswer,
    now: datetime,
) -> None:
    """Store the answer beside its effect. Conflict (idempotency_in_flight) if one is there."""
    with one_answer():
        await conn.execute(SAVE, to_save(scope, fingerprint, answer, now))


def to_save(
    scope: Scope, fingerprint: bytes, answer: StoredAnswer, now: datetime
) -> dict[str, Any]:
    """The parameters of SAVE; their names begin with `idem_`."""
    return {
        "idem_user": scope.user,
        "idem_route": scope.route,
        "idem_key": scope.key,
        "idem_fingerprint": fingerprint,
        "idem_status": answer.status,
        "idem_headers": Jsonb(dict(answer.headers)),
        "idem_body": answer.body,
        "idem_now": now,
    }


@contextmanager
def one_answer() -> Generator[None, None, None]:
    """Around a statement with SAVE: Conflict (idempotency_in_flight) if an answer is there."""
    try:
        yield
    except UniqueViolation as error:
        if error.diag.table_name != "idempotency_key":
            raise
        raise _in_flight() from error


async def purge(conn: AsyncConnection[Any], before: datetime) -> int:
    """Delete at most PURGE_BATCH records older than `before`; returns how many went."""
    cursor = await conn.execute(
        "DELETE FROM idempotency_key WHERE (user_id, route, key) IN ("
        " SELECT user_id, route, key FROM idempotency_key WHERE created_at < %s"
        " ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        (before, PURGE_BATCH),
    )
    return cursor.rowcount


def lock_id(scope: Scope) -> int:
    """The scope as a signed 64-bit lock number; lengths are part of it, so no two texts join."""
    parts = (scope.user, scope.route, scope.key)
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


def _stored(row: tuple[Any, ...], fingerprint: bytes) -> StoredAnswer:
    stored, status, headers, body = row
    if bytes(stored) != fingerprint:
        raise IdempotencyMismatch("This Idempotency-Key was used with another request.")
    return StoredAnswer(status, headers, bytes(body))


def _in_flight() -> Conflict:
    return Conflict(
        "A request with this Idempotency-Key is being answered.", code="idempotency_in_flight"
    )
