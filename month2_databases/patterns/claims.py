"""A table as a list of jobs: who claims takes rows that nobody holds, and waits for nobody.

FOR UPDATE alone makes a second worker wait for the first one's row, and then find it done. With
SKIP LOCKED it looks further. The claim is the row lock itself: a worker that dies lets its rows go
with its connection, and no clock decides when.

Guarantees
    C1  A job is held by one transaction at a time, and done once it commits.
    C2  A transaction that ends without `finish`, or dies, leaves its jobs to the next.

Order is by id among the jobs that are free: a job that comes back is done after later ones.
The transaction is open while the job is done: for short work inside the same database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import AsyncConnection

from scalelab.errors import InvalidInput

TABLE = """
CREATE TABLE IF NOT EXISTS job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload text NOT NULL,
    is_done boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS job_waiting ON job (id) WHERE NOT is_done;
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that waits, or is held."""

    id: int
    payload: str


async def claim(conn: AsyncConnection, *, most: int = 1) -> list[Job]:
    """Up to `most` of the oldest jobs that nobody holds, held until the transaction ends."""
    if most < 1:
        raise InvalidInput(f"a claim takes one job at least, not {most}", field="most")
    cursor = await conn.execute(
        "SELECT id, payload FROM job WHERE NOT is_done ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED",
        (most,),
    )
    return [Job(*row) for row in await cursor.fetchall()]


async def finish(conn: AsyncConnection, jobs: Iterable[Job]) -> None:
    """Mark jobs that this transaction holds as done, with its commit."""
    await conn.execute("UPDATE job SET is_done = true WHERE id = ANY(%s)", ([j.id for j in jobs],))
