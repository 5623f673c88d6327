"""The data API: keys, ranges, transactions, leases, sessions, watches.

Any node answers. Writes go to the group's leader, reads are confirmed by a majority and answered
here; `consistency=eventual` asks nobody and says how long no leader was heard. A key in the path is
percent-encoded bytes, and its value the body, as it is.

Exactly once: `Kv-Session`, `Kv-Sequence` and `Kv-Acknowledged-Below` make a retry safe.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from month5_kvstore.node.api_values import (
    Encoding,
    TransactionDocument,
    accepted,
    answer_document,
    decode,
    document_keys,
    event_document,
    interval_of,
    lease_of,
    to_transaction,
)
from month5_kvstore.node.errors import CrossGroup, WrongGroup
from month5_kvstore.node.node import NO_TAG, Node, Tag
from month5_kvstore.node.placement import (
    GROUPS,
    group_of,
    group_of_all,
    groups_of,
    private_id,
    public_id,
)
from month5_kvstore.store import (
    Answer,
    Command,
    Delete,
    Deleted,
    Done,
    Found,
    Grant,
    Interval,
    KeepAlive,
    LeaseAnswer,
    OpenSession,
    Put,
    PutDone,
    Range,
    RevisionCompacted,
    Revoke,
    SessionOpened,
    TransactionDone,
)
from scalelab.errors import InvalidInput, InvariantBroken, NotFound
from scalelab.web.sse import Event as StreamEvent
from scalelab.web.sse import EventStream

_PATH = b"/v1/kv/"
Consistency = Literal["linearizable", "eventual"]
DeadlineS = Annotated[float, Query(gt=0, le=60)]


class LeaseRequest(BaseModel):
    """key: any key that will hang on it, or its tag: a lease belongs to one group."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    ttl_ms: int
    encoding: Encoding = "utf-8"


class Numbered:
    """The headers of a call that may come again: which session it is of, and its number there."""

    def __init__(
        self,
        kv_session: Annotated[int, Header()] = 0,
        kv_sequence: Annotated[int, Header()] = 0,
        kv_acknowledged_below: Annotated[int, Header()] = 0,
    ) -> None:
        self._session = kv_session
        self._sequence = kv_sequence
        self._acknowledged_below = kv_acknowledged_below

    def tag(self, group: int) -> Tag:
        """For a command of this group; NO_TAG without one. Raises WrongGroup, InvalidInput."""
        if not self._session:
            return NO_TAG
        number, of = private_id(self._session)
        if of != group:
            raise WrongGroup("this session is of another group than the key", field="kv-session")
        if self._sequence < 1 or not 0 <= self._acknowledged_below <= self._sequence:
            raise InvalidInput(
                "a sequence is 1 or more, and not acknowledged yet", field="kv-sequence"
            )
        return Tag(number, self._sequence, self._acknowledged_below)


NumberedCall = Annotated[Numbered, Depends()]


def data_router(node_of: Callable[[], Node]) -> APIRouter:
    """Routes below /v1. node_of: the running node, or Unavailable raised."""
    router = APIRouter(prefix="/v1")
    _add_keys(router, node_of)
    _add_transactions(router, node_of)
    _add_ranges(router, node_of)
    _add_leases(router, node_of)
    return router


def _add_keys(router: APIRouter, node_of: Callable[[], Node]) -> None:
    @router.get("/kv/{key:path}")
    async def get(
        request: Request,
        consistency: Consistency = "linearizable",
        revision: int = 0,
        deadline_s: DeadlineS = 5.0,
    ) -> Response:
        """The value of one key, as it is; 404 where there is none."""
        key = _key(request)
        found = await _read(node_of(), Range(Interval(key), revision), consistency, deadline_s)
        if not found.items:
            raise NotFound("there is no such key", code="key_not_found")
        item = found.items[0]
        headers = _headers(node_of(), group_of(key), found.revision)
        headers |= {"kv-modified": str(item.modified), "kv-version": str(item.version)}
        return Response(item.value, headers=headers, media_type="application/octet-stream")

    @router.put("/kv/{key:path}")
    async def put(
        request: Request,
        response: Response,
        numbered: NumberedCall,
        lease: int = 0,
        deadline_s: DeadlineS = 5.0,
    ) -> dict[str, Any]:
        """Write one key."""
        key, value = _key(request), await request.body()
        group = group_of(key)
        command = Put(key, value, lease_of(lease, group))
        tag = numbered.tag(group)
        return await _write(node_of(), group, command, deadline_s, response, tag)

    @router.delete("/kv/{key:path}")
    async def delete(
        request: Request,
        response: Response,
        numbered: NumberedCall,
        deadline_s: DeadlineS = 5.0,
    ) -> dict[str, Any]:
        """Delete one key; `deleted` says whether it was there."""
        key = _key(request)
        group = group_of(key)
        tag = numbered.tag(group)
        return await _write(node_of(), group, Delete(Interval(key)), deadline_s, response, tag)


def _add_transactions(router: APIRouter, node_of: Callable[[], Node]) -> None:
    @router.post("/transaction")
    async def transaction(
        document: TransactionDocument,
        response: Response,
        numbered: NumberedCall,
        deadline_s: DeadlineS = 5.0,
    ) -> dict[str, Any]:
        """Conditions and operations on keys of one group, whole or not at all."""
        group = group_of_all(document_keys(document))
        command = to_transaction(document, group)
        for one in (*command.then, *command.otherwise):
            if isinstance(one, Range | Delete) and len(groups_of(one.interval)) > 1:
                raise CrossGroup("an interval of a transaction must lie in one group", field="end")
        tag = numbered.tag(group)
        return await _write(node_of(), group, command, deadline_s, response, tag)


def _add_ranges(router: APIRouter, node_of: Callable[[], Node]) -> None:
    @router.get("/range")
    async def find(
        key: str = "",
        end: str | None = None,
        prefix: bool = False,
        revision: int = 0,
        limit: Annotated[int, Query(ge=0, le=10_000)] = 1000,
        encoding: Encoding = "utf-8",
        consistency: Consistency = "linearizable",
        deadline_s: DeadlineS = 5.0,
    ) -> dict[str, Any]:
        """Keys of an interval, in order; of several groups each is read at its own revision."""
        query = Range(_interval(key, end, prefix, encoding), revision, limit)
        groups = groups_of(query.interval)
        if revision and len(groups) > 1:
            raise CrossGroup(
                "a revision is of one group; this interval spans all", field="revision"
            )
        parts = await asyncio.gather(
            *(_read(node_of(), query, consistency, deadline_s, group) for group in groups)
        )
        items = sorted(item for part in parts for item in part.items)
        count = sum(part.count for part in parts)
        kept = tuple(items[:limit] if limit else items)
        revisions = {group: part.revision for group, part in zip(groups, parts, strict=True)}
        found = Found(max(revisions.values()), kept, count)
        return {**answer_document(found), "revisions": revisions}

    @router.get("/watch")
    async def watch(
        key: str,
        end: str | None = None,
        prefix: bool = False,
        revision: Annotated[int, Query(ge=0)] = 0,
        encoding: Encoding = "utf-8",
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Changes from a revision on (0: from now on), as events whose id is their revision."""
        interval = _interval(key, end, prefix, encoding)
        groups = groups_of(interval)
        if len(groups) > 1:
            raise CrossGroup("watch a key, or a prefix with a whole {tag}", field="key")
        node = node_of()
        store = node.groups[groups[0]].store
        if last_event_id is not None:
            if not last_event_id.isdigit():
                raise InvalidInput("Last-Event-ID is a revision", field="last-event-id")
            revision = int(last_event_id) + 1
        first = revision or store.revision + 1
        if first <= store.compacted:
            raise RevisionCompacted(first, store.compacted)
        return EventStream(_changes(node, groups[0], interval, first))


def _add_leases(router: APIRouter, node_of: Callable[[], Node]) -> None:
    async def on_lease(lease: int, command: Callable[[int], Command], deadline_s: float) -> Answer:
        number, group = private_id(lease)
        return accepted(await node_of().execute(group, command(number), deadline_s=deadline_s))

    @router.post("/leases")
    async def grant(request: LeaseRequest, deadline_s: DeadlineS = 5.0) -> dict[str, int]:
        """A lease for keys of the group of `key`."""
        group = group_of(decode(request.key, request.encoding, "key"))
        answer = accepted(
            await node_of().execute(group, Grant(request.ttl_ms), deadline_s=deadline_s)
        )
        return _lease(answer, group)

    @router.post("/leases/{lease}/keep-alive")
    async def keep_alive(lease: int, deadline_s: DeadlineS = 5.0) -> dict[str, int]:
        """Its time begins anew; 404 if it has ended."""
        return _lease(await on_lease(lease, KeepAlive, deadline_s), lease % GROUPS)

    @router.delete("/leases/{lease}")
    async def revoke(lease: int, deadline_s: DeadlineS = 5.0) -> dict[str, int]:
        """End it, and delete its keys."""
        answer = await on_lease(lease, Revoke, deadline_s)
        if not isinstance(answer, Done):
            raise InvariantBroken(f"the end of a lease was answered by {answer}")
        return {"revision": answer.revision}

    @router.post("/sessions")
    async def open_session(request: LeaseRequest, deadline_s: DeadlineS = 5.0) -> dict[str, int]:
        """A session for commands on keys of the group of `key`."""
        group = group_of(decode(request.key, request.encoding, "key"))
        answer = await node_of().execute(group, OpenSession(request.ttl_ms), deadline_s=deadline_s)
        opened = accepted(answer)
        if not isinstance(opened, SessionOpened):
            raise InvariantBroken(f"opening a session was answered by {opened}")
        return {"session": public_id(opened.id, group), "ttl_ms": request.ttl_ms}


async def _changes(
    node: Node, group: int, interval: Interval, revision: int
) -> AsyncGenerator[StreamEvent, None]:
    """Events for ever; one of kind `compacted` ends them if compaction was faster."""
    driver = node.groups[group]
    while True:
        changed = driver.changed
        try:
            events, following = driver.store.events(revision, interval)
        except RevisionCompacted as error:
            data = json.dumps({"code": error.stable_code, "compacted": error.compacted})
            yield StreamEvent(data, event="compacted")
            return
        for place, event in enumerate(events):
            # A caller that comes back names the last revision it has whole.
            last = place + 1 == len(events) or events[place + 1].item.modified > event.item.modified
            number = str(event.item.modified) if last else None
            yield StreamEvent(json.dumps(event_document(event)), id=number, event="change")
        if following == revision:
            await changed.wait()
        revision = following


async def _read(
    node: Node, query: Range, consistency: Consistency, deadline_s: float, group: int | None = None
) -> Found:
    where = group_of(query.interval.start) if group is None else group
    eventual = consistency == "eventual"
    return await node.read(where, query, deadline_s=deadline_s, eventual=eventual)


async def _write(
    node: Node, group: int, command: Command, deadline_s: float, response: Response, tag: Tag
) -> dict[str, Any]:
    answer = accepted(await node.execute(group, command, deadline_s=deadline_s, tag=tag))
    if not isinstance(answer, PutDone | Deleted | TransactionDone):
        raise InvariantBroken(f"a write was answered by {answer}")
    for name, value in _headers(node, group, answer.revision).items():
        response.headers[name] = value
    return answer_document(answer)


def _key(request: Request) -> bytes:
    raw: bytes = request.scope["raw_path"]
    return unquote_to_bytes(raw[raw.index(_PATH) + len(_PATH) :])


def _interval(key: str, end: str | None, prefix: bool, encoding: Encoding) -> Interval:
    last = None if end is None else decode(end, encoding, "end")
    return interval_of(decode(key, encoding, "key"), last, prefix=prefix)


def _headers(node: Node, group: int, revision: int) -> dict[str, str]:
    driver = node.groups[group]
    return {
        "kv-group": str(group),
        "kv-leader": str(driver.raft.leader),
        "kv-revision": str(revision),
        "kv-silence-ms": str(int(driver.silence_s * 1000)),
    }


def _lease(answer: Answer, group: int) -> dict[str, int]:
    if not isinstance(answer, LeaseAnswer):
        raise InvariantBroken(f"a lease was answered by {answer}")
    return {"lease": public_id(answer.id, group), "ttl_ms": answer.ttl_ms}
