"""GET /api/v1/orders/{id}/events: an order's statuses as server-sent events.

    id: 3
    event: status
    data: {"order_id":"…","status":"paid","version":3,"at":"2026-01-01T00:00:00+00:00"}

The id is the version in the order's history, so a client that comes back with Last-Event-ID gets
exactly what it missed, wherever it was connected before. The stream ends when nothing can follow
any more; a cancelled order stays open until payments has answered.
Guarantee: versions arrive ascending, each once per connection, none left out.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from month3_messaging.orders import (
    FINAL,
    Progress,
    Sessions,
    StatusChange,
    progress_after,
    read_own,
)
from month3_messaging.status.hub import Hub, Watcher
from scalelab.errors import InvalidInput
from scalelab.security import Principal, TokenVerifier
from scalelab.web import Event, EventStream, problem_responses
from scalelab.web.auth import require

_VERSION_DIGITS_MAX = 9


@dataclass(frozen=True, slots=True)
class StatusApi:
    """What the route needs. heartbeat_s: silence after which a comment is sent."""

    hub: Hub
    sessions: Sessions
    verifier: TokenVerifier
    heartbeat_s: float = 15.0


def status_router(api: StatusApi) -> APIRouter:
    """The route; tokens of scope `shop`."""
    router = APIRouter(prefix="/api/v1/orders", tags=["orders"])
    user = Depends(require(api.verifier, "shop"))

    @router.get(
        "/{order_id}/events",
        response_class=Response,
        responses=problem_responses(401, 403, 404, 422, 429, 503),
    )
    async def watch(
        order_id: UUID,
        principal: Principal = user,
        last_event_id: Annotated[str | None, Header(max_length=32)] = None,
    ) -> Response:
        """The order's statuses so far, then each new one; 204 if nothing can follow any more."""
        after = _version(last_event_id)
        await read_own(api.sessions, order_id, principal, None)
        # Watch first, read then: what happens in between is seen twice rather than never.
        async with AsyncExitStack() as stack:
            watcher = await stack.enter_async_context(api.hub.watch(principal.subject, order_id))
            progress = await _progress(api.sessions, order_id, after)
            if progress.ended and not progress.changes:
                return Response(status_code=204)
            events = _events(api.sessions, order_id, after, progress, watcher)
            return _Watching(events, api.heartbeat_s, stack.pop_all())

    return router


class _Watching(EventStream):
    """An event stream that stops watching however it ends, even before its first event."""

    def __init__(
        self, events: AsyncGenerator[Event, None], heartbeat_s: float, watching: AsyncExitStack
    ) -> None:
        super().__init__(events, heartbeat_s=heartbeat_s)
        self._watching = watching

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._watching:
            await super().__call__(scope, receive, send)


async def _events(
    sessions: Sessions, order_id: UUID, after: int, progress: Progress, watcher: Watcher
) -> AsyncGenerator[Event, None]:
    """What was read first, then hints; a gap between the two leads back to the history."""
    last = after
    while True:
        for change in progress.changes:
            last = change.version
            yield _event(order_id, change)
        if progress.ended:
            return
        progress = await _news(sessions, order_id, last, await watcher.next())


async def _news(
    sessions: Sessions, order_id: UUID, last: int, hint: StatusChange | None
) -> Progress:
    if hint is None or hint.version > last + 1 or hint.status in FINAL:
        return await _progress(sessions, order_id, last)
    return Progress([hint] if hint.version == last + 1 else [], ended=False)


async def _progress(sessions: Sessions, order_id: UUID, after: int) -> Progress:
    # On the primary: a notification is sent at its commit, before any replica has replayed it.
    async with sessions.for_order(order_id) as session:
        return await progress_after(session.conn, order_id, after)


def _event(order_id: UUID, change: StatusChange) -> Event:
    data = {
        "order_id": str(order_id),
        "status": change.status.value,
        "version": change.version,
        "at": change.at.isoformat(),
    }
    return Event(json.dumps(data), id=str(change.version), event="status")


def _version(text: str | None) -> int:
    """The version in a Last-Event-ID; absent or empty means from the start."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= _VERSION_DIGITS_MAX):
        raise InvalidInput("this id came from no stream of ours", field="Last-Event-ID")
    return int(text)
