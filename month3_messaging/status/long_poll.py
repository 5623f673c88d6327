"""GET /api/v1/orders/{id}/status: what happened after a version, now or as soon as it happens.

`wait_s=0` is polling. Otherwise an answer without changes is held back until there are some, for
at most that long; then the client asks again with the last version it has. Each answer is whole:
`{"order_id", "changes": [{"version", "status", "at"}], "last": 3, "ended": false}`.

Guarantee: whoever asks again with `after` = `last` sees every version once, ascending.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from month3_messaging.orders import Progress, progress_after, read_own
from month3_messaging.status.api import StatusApi
from month3_messaging.status.hub import Watcher
from scalelab.security import Principal
from scalelab.web import lifecycle_of, problem_responses
from scalelab.web.auth import require

WAIT_MAX_S = 30.0
"""Less than what proxies wait for a silent answer."""


class ChangeOut(BaseModel):
    """One row of the order's history."""

    version: int
    status: str
    at: datetime


class ProgressOut(BaseModel):
    """last: give it as `after` the next time. ended: nothing can follow; stop asking."""

    order_id: UUID
    changes: list[ChangeOut]
    last: int
    ended: bool


def long_poll_router(api: StatusApi) -> APIRouter:
    """The route; tokens of scope `shop`. Waiting requests count as streams of their user."""
    router = APIRouter(prefix="/api/v1/orders", tags=["orders"])
    user = Depends(require(api.verifier, "shop"))

    @router.get(
        "/{order_id}/status",
        responses=problem_responses(401, 403, 404, 422, 429, 503),
    )
    async def changes(
        order_id: UUID,
        request: Request,
        response: Response,
        principal: Principal = user,
        after: Annotated[int, Query(ge=0, le=999_999_999)] = 0,
        wait_s: Annotated[float, Query(ge=0, le=WAIT_MAX_S)] = 0.0,
    ) -> ProgressOut:
        """The changes after `after`; empty when none came in time."""
        await read_own(api.sessions, order_id, principal, None)
        response.headers["Cache-Control"] = "private, no-store"
        if wait_s == 0.0:
            return _out(order_id, after, await _progress(api, order_id, after))
        # Watch first, read then: what happens in between is seen.
        async with api.hub.watch(principal.subject, order_id) as watcher:
            deadline_s = asyncio.get_running_loop().time() + wait_s
            while True:
                progress = await _progress(api, order_id, after)
                if progress.changes or progress.ended:
                    return _out(order_id, after, progress)
                if not await _stirred(request, watcher, deadline_s):
                    return _out(order_id, after, progress)

    return router


async def _stirred(request: Request, watcher: Watcher, deadline_s: float) -> bool:
    """Whether a hint came before the deadline, the drain, and the caller's going."""
    loop = asyncio.get_running_loop()
    waits: list[asyncio.Task[object]] = [
        asyncio.create_task(watcher.next(), name="long poll, news"),
        asyncio.create_task(lifecycle_of(request.app).draining.wait(), name="long poll, drain"),
        asyncio.create_task(_until_gone(request), name="long poll, gone"),
    ]
    try:
        done, _ = await asyncio.wait(
            waits,
            timeout=max(0.0, deadline_s - loop.time()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        return waits[0] in done and len(done) == 1
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _progress(api: StatusApi, order_id: UUID, after: int) -> Progress:
    # On the primary: a notification is sent at its commit, before any replica has replayed it.
    async with api.sessions.for_order(order_id) as session:
        return await progress_after(session.conn, order_id, after)


def _out(order_id: UUID, after: int, progress: Progress) -> ProgressOut:
    changes = [
        ChangeOut(version=change.version, status=change.status.value, at=change.at)
        for change in progress.changes
    ]
    last = changes[-1].version if changes else after
    return ProgressOut(order_id=order_id, changes=changes, last=last, ended=progress.ended)
