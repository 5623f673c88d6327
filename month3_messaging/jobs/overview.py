"""What became of the jobs, for people: how many stand where, and each invoice. It only reads.

GET /internal/v1/jobs                 {"states": {"waiting": 0, "ready": 1, "done": 7, …}}
GET /internal/v1/invoices?after=&limit=     ascending by number
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from psycopg.rows import class_row
from pydantic import BaseModel

from scalelab.clients.postgres import Database
from scalelab.web import problem_responses

_STATES = ("waiting", "ready", "done", "parked")


class JobsOut(BaseModel):
    """states: jobs by where they stand. last_number: of the newest invoice, 0 before the first."""

    states: dict[str, int]
    last_number: int


class InvoiceOut(BaseModel):
    """pdf_bytes: None until its document was made. mailed_at: None until its mail was taken.
    attempts: begun ones of its job."""

    number: int
    order_id: UUID
    state: str
    attempts: int
    issued_at: datetime
    mailed_at: datetime | None
    pdf_bytes: int | None


def overview_router(database: Database) -> APIRouter:
    """Jobs and invoices; for the inside, as it asks nobody for a token."""
    router = APIRouter(prefix="/internal/v1", tags=["invoices"])

    @router.get("/jobs", responses=problem_responses(503))
    async def jobs() -> JobsOut:  # pyright: ignore[reportUnusedFunction] - registered
        """How many jobs stand where."""
        async with database.transaction(read_only=True) as conn:
            cursor = await conn.execute("SELECT state, count(*) FROM job GROUP BY state")
            counted = dict(await cursor.fetchall())
            row = await (await conn.execute("SELECT last FROM invoice_counter")).fetchone()
        states = {state: int(counted.get(state, 0)) for state in _STATES}
        return JobsOut(states=states, last_number=int(row[0]) if row else 0)

    @router.get("/invoices", responses=problem_responses(422, 503))
    async def invoices(  # pyright: ignore[reportUnusedFunction] - registered
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[InvoiceOut]:
        """Invoices with numbers over `after`."""
        async with database.autocommit(read_only=True) as conn:
            cursor = conn.cursor(row_factory=class_row(InvoiceOut))
            await cursor.execute(
                "SELECT number, order_id, state, attempts, issued_at, mailed_at,"
                " length(pdf) AS pdf_bytes FROM invoice JOIN job USING (order_id)"
                " WHERE number > %s ORDER BY number LIMIT %s",
                (after, limit),
            )
            return await cursor.fetchall()

    return router
