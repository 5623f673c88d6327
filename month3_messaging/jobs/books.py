"""The jobs and invoices in PostgreSQL, as a worker uses them (psycopg). Blocking.

Guarantees
    K1  An order has one number, from its first attempt on, and numbers have no holes: the counter
        is locked until the number is committed with its order.
    K2  One worker at a time carries out an order's job: `alone` holds a lock of the session, which
        ends with the worker's connection, however the worker ends.
    K3  A begun attempt is counted before anything else is done.
    K4  A job that is done or parked is not begun again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection

from scalelab.clients.postgres_errors import Stage, translate
from scalelab.errors import CorruptData, NotFound, Unavailable

_LOCK_CLASS = 3131
_NAME = "jobs"
_CAUSE_MAX = 500
_STACK_MAX = 8000


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt that was counted. attempt: 1 at first."""

    content: Mapping[str, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class Issued:
    """An invoice's entry. mailed: whether its mail is known to have been taken."""

    number: int
    issued_at: datetime
    mailed: bool


@contextmanager
def open_books(dsn: str, *, connect_timeout_s: float = 5.0) -> Generator[Books]:
    """The books over a connection of their own. Raises Unavailable."""
    with _mapped(Stage.READING):
        conn = psycopg.connect(dsn, connect_timeout=round(connect_timeout_s), autocommit=True)
    try:
        yield Books(conn)
    finally:
        conn.close()


class Books:
    """See `open_books`; for one job at a time."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    @contextmanager
    def alone(self, order_id: UUID) -> Generator[None]:
        """Be the only one at work on this order (K2).

        Raises Unavailable, code `job_in_hand`, if another is: it may be about to die, so ask again.
        """
        with _mapped(Stage.READING):
            found = self._conn.execute(
                "SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK_CLASS, str(order_id))
            ).fetchone()
        if not found or not found[0]:
            raise Unavailable(f"another worker has the job of {order_id}", code="job_in_hand")
        yield  # the lock ends with the connection

    def begin(self, order_id: UUID) -> Begun | None:
        """Count an attempt (K3); None if there is nothing to do any more (K4).

        Raises NotFound, code `unknown_job`, for an order that was never confirmed here.
        """
        with _mapped(Stage.WRITING_ALONE):
            row = self._conn.execute(
                "UPDATE job SET attempts = attempts + 1, changed_at = now()"
                " WHERE order_id = %s AND state = 'ready' RETURNING content, attempts",
                (order_id,),
            ).fetchone()
            if row is not None:
                return Begun(row[0], row[1])
            ended = self._conn.execute(
                "SELECT FROM job WHERE order_id = %s AND state IN ('done', 'parked')", (order_id,)
            ).fetchone()
        if ended is None:
            raise NotFound(f"no job of order {order_id}", code="unknown_job")
        return None

    def issue(self, order_id: UUID) -> Issued:
        """The order's number, given now if it has none (K1)."""
        with _mapped(Stage.COMMITTING), self._conn.transaction():
            found = self._issued(order_id)
            if found is None:
                self._conn.execute("UPDATE invoice_counter SET last = last + 1")
                self._conn.execute(
                    "INSERT INTO invoice (order_id, number) SELECT %s, last FROM invoice_counter",
                    (order_id,),
                )
                found = self._issued(order_id)
        if found is None:
            raise CorruptData(f"the invoice of {order_id} was issued and is not there")
        return found

    def keep_pdf(self, order_id: UUID, pdf: bytes) -> bytes:
        """The order's document: this one, or the one that was kept before."""
        with _mapped(Stage.WRITING_ALONE):
            row = self._conn.execute(
                "UPDATE invoice SET pdf = coalesce(pdf, %s) WHERE order_id = %s RETURNING pdf",
                (pdf, order_id),
            ).fetchone()
        if row is None:
            raise NotFound(f"no invoice of order {order_id}", code="unknown_invoice")
        return bytes(row[0])

    def mailed(self, order_id: UUID) -> None:
        """The mail was taken, and the job is done. Repeatable."""
        with _mapped(Stage.COMMITTING), self._conn.transaction():
            self._conn.execute(
                "UPDATE invoice SET mailed_at = coalesce(mailed_at, now()) WHERE order_id = %s",
                (order_id,),
            )
            self._conn.execute(
                "UPDATE job SET state = 'done', changed_at = now()"
                " WHERE order_id = %s AND state = 'ready'",
                (order_id,),
            )

    def park(self, order_id: UUID, code: str, cause: str, stack: str) -> None:
        """Give the job up, with the reason; one that is done stays done."""
        with _mapped(Stage.WRITING_ALONE):
            self._conn.execute(
                "UPDATE job SET state = 'parked', code = %s, cause = %s, stack = %s,"
                " changed_at = now() WHERE order_id = %s AND state = 'ready'",
                (code, _text(cause)[:_CAUSE_MAX], _text(stack)[-_STACK_MAX:], order_id),
            )

    def _issued(self, order_id: UUID) -> Issued | None:
        row = self._conn.execute(
            "SELECT number, issued_at, mailed_at IS NOT NULL FROM invoice WHERE order_id = %s",
            (order_id,),
        ).fetchone()
        return Issued(*row) if row else None


def _text(text: str) -> str:
    """As PostgreSQL stores it, which knows no NUL."""
    return text.replace("\0", "")


@contextmanager
def _mapped(stage: Stage) -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, stage=stage, name=_NAME) from error
