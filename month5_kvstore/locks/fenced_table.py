"""Numbers in PostgreSQL behind a fence: each row remembers the highest token it was shown.

The comparison stands in the statement that writes, so that the row's lock makes both one step.
"""

from __future__ import annotations

from dataclasses import dataclass

from month5_kvstore.locks.fencing import StaleToken
from scalelab.clients.postgres import Database
from scalelab.errors import NotFound

DDL = """
CREATE TABLE IF NOT EXISTS fenced (
    name text PRIMARY KEY, value bigint NOT NULL, token bigint NOT NULL DEFAULT 0
);
"""


@dataclass(frozen=True, slots=True)
class Fenced:
    """A number, and the highest token that was shown to it."""

    value: int
    token: int


class FencedTable:
    """database: with the table of `DDL`; it stays the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str, value: int) -> None:
        """A number; one that is there stays as it is."""
        async with self._database.autocommit() as conn:
            await conn.execute(
                "INSERT INTO fenced (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (name, value),
            )

    async def read(self, name: str, token: int) -> int:
        """The number, and the fence raised to this token. Raises StaleToken, NotFound."""
        async with self._database.autocommit() as conn:
            cursor = await conn.execute(
                "UPDATE fenced SET token = %s WHERE name = %s AND token <= %s RETURNING value",
                (token, name, token),
            )
            row = await cursor.fetchone()
        if row is None:
            raise await self._refusal(name, token)
        return int(row[0])

    async def write(self, name: str, value: int, token: int) -> None:
        """Write with this token. Raises StaleToken, NotFound; nothing was changed then."""
        async with self._database.autocommit() as conn:
            cursor = await conn.execute(
                "UPDATE fenced SET value = %s, token = %s WHERE name = %s AND token <= %s",
                (value, token, name, token),
            )
        if not cursor.rowcount:
            raise await self._refusal(name, token)

    async def peek(self, name: str) -> Fenced:
        """As it stands; shows no token. Raises NotFound."""
        async with self._database.autocommit(read_only=True) as conn:
            cursor = await conn.execute("SELECT value, token FROM fenced WHERE name = %s", (name,))
            row = await cursor.fetchone()
        if row is None:
            raise NotFound(f"there is no number {name}", code="number_not_found")
        return Fenced(int(row[0]), int(row[1]))

    async def write_unfenced(self, name: str, value: int) -> None:
        """What a resource does that looks at no token: it believes whoever writes last."""
        async with self._database.autocommit() as conn:
            await conn.execute("UPDATE fenced SET value = %s WHERE name = %s", (value, name))

    async def _refusal(self, name: str, token: int) -> StaleToken | NotFound:
        try:
            stands = await self.peek(name)
        except NotFound as error:
            return error
        return StaleToken(f"token {token} came after token {stands.token}")
