"""Totals that are appended to, not changed: writers never wait for each other.

One row that everybody adds to is a queue: each UPDATE waits until the one before has committed, and
leaves a dead row behind. Here every addition is a row of its own. A total is the folded part plus
what was appended since, read in one snapshot; folding moves rows from the one to the other.

Guarantees
    A1  A total counts every committed addition once, also while it is folded.
    A2  Adding takes no lock that another adder, or a fold, waits for.
    A3  Folds at once take different rows (SKIP LOCKED); a fold that dies has folded nothing.

The price is on the reader's side: it sums what is unfolded. `fold` now and then keeps that short.
Folds of the same key still take turns at its folded row; nobody who adds does.
"""

from __future__ import annotations

from scalelab.clients.postgres import Database
from scalelab.errors import InvalidInput

TABLES = """
CREATE TABLE IF NOT EXISTS total_folded (
    key text PRIMARY KEY,
    amount bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS total_added (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL,
    amount bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS total_added_key ON total_added (key, id);
"""

_FOLD = """
WITH chosen AS (
    SELECT id FROM total_added ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM total_added USING chosen WHERE total_added.id = chosen.id
    RETURNING total_added.key, total_added.amount
), folded AS (
    INSERT INTO total_folded AS f
    SELECT key, sum(amount) FROM gone GROUP BY key ORDER BY key
    ON CONFLICT (key) DO UPDATE SET amount = f.amount + excluded.amount
)
SELECT count(*) FROM gone
"""

_TOTAL = """
SELECT coalesce((SELECT amount FROM total_folded WHERE key = %(key)s), 0)
     + coalesce((SELECT sum(amount) FROM total_added WHERE key = %(key)s), 0)::bigint
"""


class AppendedTotals:
    """Totals by key, in two tables of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def define(self) -> None:
        """Make the tables, where they are not there."""
        async with self._database.transaction() as conn:
            await conn.execute(TABLES)

    async def add(self, key: str, amount: int) -> None:
        """Add, or take away. Raises OutcomeUnknown if the answer was lost: it may count."""
        async with self._database.autocommit() as conn:
            await conn.execute(
                "INSERT INTO total_added (key, amount) VALUES (%s, %s)", (key, amount)
            )

    async def total(self, key: str) -> int:
        """What was added to a key, 0 for one that nobody knows (A1)."""
        async with self._database.autocommit(read_only=True) as conn:
            cursor = await conn.execute(_TOTAL, {"key": key})
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def fold(self, *, most: int = 1000) -> int:
        """Fold up to `most` of the oldest rows; how many."""
        if most < 1:
            raise InvalidInput(f"a fold takes one row at least, not {most}", field="most")
        async with self._database.transaction() as conn:
            cursor = await conn.execute(_FOLD, (most,))
            row = await cursor.fetchone()
        return int(row[0]) if row else 0
