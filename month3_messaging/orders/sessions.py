"""Where an order's rows are, as the order code asks for it: by order or by user, never by shard.

Whoever composes the service supplies the four openers. All rows of a user are reached through
`for_user(user)`, and `for_order(order_id)` leads to the same place for each of the user's orders.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection


@dataclass(slots=True)
class WriteSession:
    """An open transaction on the primary; it commits when the block ends, or rolls back.

    token: the consistency token of the commit, there once the block has ended.
    """

    conn: AsyncConnection[Any]
    shard: str
    token: str | None = None


@dataclass(frozen=True, slots=True)
class ReadSession:
    """A connection to read from. role: "primary" or "replica"."""

    conn: AsyncConnection[Any]
    shard: str
    role: str


FROM_PRIMARY = ""
"""For a reader: no consistency token, but a wish to read the primary."""

Write = AbstractAsyncContextManager[WriteSession]
Read = AbstractAsyncContextManager[ReadSession]


@dataclass(frozen=True, slots=True)
class Sessions:
    """The four openers. The readers take the consistency token that the caller brought, or None.

    A reader given a token answers from a place that has replayed at least that commit. A token
    that cannot be read or is from another place means: read the primary, as does FROM_PRIMARY.
    `for_order` and `read_order` raise InvalidInput for an id that is no order id.
    """

    for_order: Callable[[UUID], Write]
    for_user: Callable[[str], Write]
    read_order: Callable[[UUID, str | None], Read]
    read_user: Callable[[str, str | None], Read]
