"""Accounts in PostgreSQL: find one, add one, add many.

E-mail addresses come here normalized. Which of two racing registrations wins is decided by the
unique index, never by looking first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import psycopg

from month6_capstone.identity.credentials import normalize_email
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict

EMAIL_CONSTRAINT = "user_account_email_key"


@dataclass(frozen=True, slots=True)
class Account:
    """One account. password_hash: argon2id, encoded."""

    user_id: str
    password_hash: str


@dataclass(frozen=True, slots=True)
class SeedUser:
    """An account for a demonstration."""

    user_id: str
    email: str


async def find_account(database: Database, email: str) -> Account | None:
    """The account of a normalized address. Raises Unavailable when the database is away."""
    async with database.autocommit(read_only=True) as conn:
        cursor = await conn.execute(
            "SELECT user_id, password_hash FROM user_account WHERE email = %s", (email,)
        )
        row = await cursor.fetchone()
    return None if row is None else Account(user_id=row[0], password_hash=row[1])


async def add_account(
    database: Database, *, user_id: str, email: str, password_hash: str, now: datetime
) -> None:
    """Insert an account.

    Raises Conflict code `email_taken`; OutcomeUnknown when the connection broke in COMMIT: the
    account may stand, and a second try then says `email_taken`.
    """
    try:
        async with database.transaction() as conn:
            await conn.execute(
                "INSERT INTO user_account (user_id, email, password_hash, created_at)"
                " VALUES (%s, %s, %s, %s)",
                (user_id, email, password_hash, now),
            )
    except Conflict as error:
        if not _is_taken(error.__cause__):
            raise
        raise Conflict("an account with this address exists", code="email_taken") from error


async def seed_users(
    database: Database, users: Iterable[SeedUser], *, password_hash: str, now: datetime
) -> int:
    """Insert many accounts that share one precomputed hash; returns how many are new.

    One statement: hashing a password for each would take a thread's second for 30 accounts.
    Accounts whose id or address exists stay as they are.
    """
    chosen = list(users)
    async with database.transaction() as conn:
        cursor = await conn.execute(
            "INSERT INTO user_account (user_id, email, password_hash, created_at)"
            " SELECT who.user_id, who.email, %s, %s"
            " FROM unnest(%s::text[], %s::text[]) AS who (user_id, email)"
            " ON CONFLICT DO NOTHING",
            (
                password_hash,
                now,
                [user.user_id for user in chosen],
                [normalize_email(user.email) for user in chosen],
            ),
        )
        return cursor.rowcount


def _is_taken(cause: BaseException | None) -> bool:
    return (
        isinstance(cause, psycopg.errors.UniqueViolation)
        and cause.diag.constraint_name == EMAIL_CONSTRAINT
    )
