"""The key-value store as seen by a program: keys, swaps, and retries that are carried out once.

Each attempt goes to the node that led the key's group when it was last heard, and to the next node
if that one does not answer. Every write has a session and a number, so that an attempt whose answer
got lost is answered again, not carried out again. What cannot be known is said: `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any, Self
from urllib.parse import quote

from month5_kvstore.client.documents import item, text, transaction_document, transaction_done
from month5_kvstore.client.numbering import Numbering
from month5_kvstore.node import GROUPS, group_of, group_of_all
from month5_kvstore.store import Interval, KeyValue, Transaction, TransactionDone, keys_of
from scalelab.clients.http import Answer, HttpClient
from scalelab.clock import Clock
from scalelab.errors import OutcomeUnknown, Retryable, ScalelabError

_SESSION_TTL_MS = 600_000
_PAUSE_S = (0.02, 0.5)


@dataclass(frozen=True, slots=True)
class Current:
    """A key's value, and the revision of its last change."""

    value: bytes
    modified: int


@dataclass(slots=True)
class _Session:
    id: int
    numbering: Numbering


class KvClient:
    """An async context manager. urls: node id to base address. random: jitter of the pauses.

    attempt_s: for one attempt at one node, before the next one is tried.
    """

    def __init__(
        self,
        urls: Mapping[int, str],
        *,
        clock: Clock,
        random: Random,
        attempt_s: float = 2.0,
    ) -> None:
        self._clock = clock
        self._random = random
        self._attempt_s = attempt_s
        self._nodes = {node: HttpClient(url, timeout_s=attempt_s) for node, url in urls.items()}
        self._order = sorted(urls)
        self._leaders = dict.fromkeys(range(GROUPS), self._order[0])
        self._sessions: dict[int, asyncio.Future[_Session]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._nodes.values():
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()

    async def get(
        self, key: bytes, *, deadline_s: float = 10.0, eventual: bool = False
    ) -> Current | None:
        """The key's value, or None. Not eventual: it sees every write that was answered before.

        Raises Unavailable if no majority could be asked in time.
        """
        path = "/v1/kv/" + quote(key, safe="")
        params = {"consistency": "eventual"} if eventual else {}

        async def once(client: HttpClient, left_s: float) -> Answer:
            wanted = {**params, "deadline_s": str(left_s)}
            return await client.get(path, params=wanted, accept=frozenset({404}))

        answer = await self.ask(group_of(key), once, deadline_s=deadline_s)
        if answer.status == 404:
            return None
        return Current(answer.body, int(answer.headers["kv-modified"]))

    async def put(self, key: bytes, value: bytes, *, deadline_s: float = 10.0) -> int:
        """Write; returns the revision. Carried out exactly once, or an error says otherwise."""
        done = await self._transact(key, [], [_put(key, value)], deadline_s)
        return int(done["revision"])

    async def delete(self, key: bytes, *, deadline_s: float = 10.0) -> bool:
        """Delete; whether it was there."""
        operation: dict[str, object] = {
            "op": "delete",
            "key": text(key),
            "encoding": "base64",
        }
        done = await self._transact(key, [], [operation], deadline_s)
        return bool(done["answers"][0]["deleted"])

    async def swap(
        self, key: bytes, expected: bytes | None, value: bytes, *, deadline_s: float = 10.0
    ) -> bool:
        """Write `value` if the key holds `expected` (None: if it is not there); whether it did."""
        compare: dict[str, object] = {"key": text(key), "encoding": "base64"}
        if expected is None:
            compare |= {"target": "version", "number": 0}
        else:
            compare |= {"target": "value", "value": text(expected)}
        done = await self._transact(key, [compare], [_put(key, value)], deadline_s)
        return bool(done["succeeded"])

    async def transact(
        self, transaction: Transaction, *, deadline_s: float = 10.0
    ) -> TransactionDone:
        """Carry out conditions and operations on keys of one group, exactly once, as `put`.

        Raises CrossGroup for keys of several groups, and what the store refuses.
        """
        keys = keys_of(transaction)
        group_of_all(keys)
        document = transaction_document(transaction)
        return transaction_done(await self._post(keys[0], document, deadline_s))

    async def find(
        self, prefix: bytes, *, limit: int = 1000, deadline_s: float = 10.0
    ) -> tuple[KeyValue, ...]:
        """All keys that begin so, in order, `limit` at a time; each group at its own moment.

        Raises Unavailable if a group could not be asked in time.
        """
        found: list[KeyValue] = []
        start, end = prefix, Interval.prefix(prefix).end
        while True:
            wanted = {"key": text(start), "end": text(end or b""), "encoding": "base64"}

            async def once(
                client: HttpClient, left_s: float, wanted: dict[str, str] = wanted
            ) -> Answer:
                params = {**wanted, "limit": str(limit), "deadline_s": str(left_s)}
                return await client.get("/v1/range", params=params)

            document = (await self.ask(group_of(prefix), once, deadline_s=deadline_s)).json()
            found += [item(one) for one in document["items"]]
            if not document["more"]:
                return tuple(found)
            start = found[-1].key + b"\x00"

    async def _transact(
        self,
        key: bytes,
        compares: list[dict[str, object]],
        then: list[dict[str, object]],
        deadline_s: float,
    ) -> Any:
        return await self._post(key, {"compares": compares, "then": then}, deadline_s)

    async def _post(self, key: bytes, document: dict[str, Any], deadline_s: float) -> Any:
        group = group_of(key)
        session = await self._session(group, key, deadline_s)
        number = session.numbering.begin()
        headers = {
            "Kv-Session": str(session.id),
            "Kv-Sequence": str(number),
            "Kv-Acknowledged-Below": str(session.numbering.acknowledged_below),
        }

        async def once(client: HttpClient, left_s: float) -> Answer:
            params = {"deadline_s": str(left_s)}
            return await client.post("/v1/transaction", document, headers=headers, params=params)

        try:
            answer = await self.ask(group, once, deadline_s=deadline_s)
        except ScalelabError as error:
            if error.stable_code == "session_expired":
                self._sessions.pop(group, None)
                raise OutcomeUnknown("the session ended before the answer came") from error
            raise
        finally:
            session.numbering.finish(number)
        return answer.json()

    async def _session(self, group: int, key: bytes, deadline_s: float) -> _Session:
        """One a group, opened by whoever needs it first; one too many does no harm."""
        known = self._sessions.get(group)
        if known is not None:
            return await asyncio.shield(known)
        opening: asyncio.Future[_Session] = asyncio.get_running_loop().create_future()
        self._sessions[group] = opening
        request = {"key": text(key), "encoding": "base64", "ttl_ms": _SESSION_TTL_MS}

        async def once(client: HttpClient, left_s: float) -> Answer:
            return await client.post("/v1/sessions", request, params={"deadline_s": str(left_s)})

        try:
            answer = await self.ask(group, once, deadline_s=deadline_s)
        except BaseException as error:
            self._sessions.pop(group, None)
            opening.set_exception(OutcomeUnknown("the session was not opened"))
            opening.exception()  # taken note of: whoever waits for it is told again
            raise error
        session = _Session(int(answer.json()["session"]), Numbering())
        opening.set_result(session)
        return session

    async def ask(
        self,
        group: int,
        once: Callable[[HttpClient, float], Awaitable[Answer]],
        *,
        deadline_s: float = 10.0,
    ) -> Answer:
        """`once(node, seconds left)` until somebody answers or the time is over; for what there is
        no method for, too. Once sent, the last word is "unknown".

        Each attempt goes where the group was last led from. It may be carried out several times.
        """
        end_s = self._clock.monotonic_s() + deadline_s
        unknown: OutcomeUnknown | None = None
        attempt = 0
        while True:
            node = self._leaders[group]
            left_s = min(self._attempt_s * 0.9, max(0.05, end_s - self._clock.monotonic_s()))
            try:
                answer = await once(self._nodes[node], left_s)
            except Retryable as error:
                unknown = error if isinstance(error, OutcomeUnknown) else unknown
                if self._leaders[group] == node:
                    self._leaders[group] = self._after(node)
                pause_s = min(_PAUSE_S[1], _PAUSE_S[0] * 2**attempt) * (0.5 + self._random.random())
                if self._clock.monotonic_s() + pause_s >= end_s:
                    raise unknown or error from error
                attempt = min(attempt + 1, 10)
                await asyncio.sleep(pause_s)
            else:
                leader = int(answer.headers.get("kv-leader", "0"))
                if leader in self._nodes:
                    self._leaders[group] = leader
                return answer

    def _after(self, node: int) -> int:
        return self._order[(self._order.index(node) + 1) % len(self._order)]


def _put(key: bytes, value: bytes) -> dict[str, object]:
    return {"op": "put", "key": text(key), "value": text(value), "encoding": "base64"}
