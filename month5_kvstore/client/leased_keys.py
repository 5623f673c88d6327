"""Keys that vanish with their owner, and changes as they come: what registries and locks stand on.

A lease belongs to one group, so all keys here carry a whole tag, `{…}`. Writes need no session: a
key is made under a value that only its owner writes, so that a retry finds what it did before.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from month5_kvstore.client.client import KvClient
from month5_kvstore.client.documents import item, text
from month5_kvstore.node import group_of
from month5_kvstore.store import Interval, KeyValue
from scalelab.clients.http import Answer, HttpClient
from scalelab.errors import CorruptData, NotFound, Unavailable

_SILENCE_S = 40.0
"""A watched node says something every 15 s, be it only that it is there."""
_CONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Change:
    """kind: what happened to a key, at revision `item.modified`."""

    kind: Literal["put", "delete"]
    item: KeyValue


class LeasedKeys:
    """urls: of the nodes, for watches; all else goes through `client`, which stays the caller's."""

    def __init__(self, client: KvClient, urls: Mapping[int, str]) -> None:
        self._client = client
        self._urls = [url.rstrip("/") for _, url in sorted(urls.items())]
        self._turn = 0

    async def grant(self, key: bytes, ttl_s: float, *, deadline_s: float = 10.0) -> int:
        """A lease for keys of the group of `key`. A retry may leave one that ends by itself."""
        wanted = {"key": text(key), "encoding": "base64", "ttl_ms": int(ttl_s * 1000)}
        answer = await self._post(group_of(key), "/v1/leases", wanted, deadline_s)
        return int(answer.json()["lease"])

    async def keep_alive(self, key: bytes, lease: int, *, deadline_s: float = 10.0) -> None:
        """Its time begins anew. Raises NotFound (lease_not_found) if it has ended."""
        await self._post(group_of(key), f"/v1/leases/{lease}/keep-alive", None, deadline_s)

    async def revoke(self, key: bytes, lease: int, *, deadline_s: float = 10.0) -> None:
        """End it and its keys. One that has ended is ended."""

        async def once(client: HttpClient, left_s: float) -> Answer:
            return await client.delete(f"/v1/leases/{lease}", params={"deadline_s": str(left_s)})

        with suppress(NotFound):
            await self._client.ask(group_of(key), once, deadline_s=deadline_s)

    async def put(self, key: bytes, value: bytes, lease: int, *, deadline_s: float = 10.0) -> None:
        """Write a key under a lease. Twice is as good as once. Raises NotFound: the lease ended."""
        document = {"then": [_put(key, value, lease)]}
        await self._post(group_of(key), "/v1/transaction", document, deadline_s)

    async def make(
        self, key: bytes, value: bytes, lease: int, *, deadline_s: float = 10.0
    ) -> KeyValue:
        """Make the key if it is not there; the key as it is then, ours if it has our value.

        value: written by nobody else, so that a retry knows its own work. Raises NotFound.
        """
        document = {
            "compares": [
                {"key": text(key), "encoding": "base64", "target": "version", "number": 0}
            ],
            "then": [_put(key, value, lease), _get(key)],
            "otherwise": [_get(key)],
        }
        answer = await self._post(group_of(key), "/v1/transaction", document, deadline_s)
        return _item(answer.json()["answers"][-1]["items"][0])

    async def find(
        self, prefix: bytes, *, deadline_s: float = 10.0
    ) -> tuple[int, tuple[KeyValue, ...]]:
        """All keys that begin with `prefix`, which holds a whole tag, and the revision of that."""
        end = Interval.prefix(prefix).end or b""

        async def once(client: HttpClient, left_s: float) -> Answer:
            wanted = {"key": text(prefix), "end": text(end), "encoding": "base64"}
            params = {**wanted, "limit": "0", "deadline_s": str(left_s)}
            return await client.get("/v1/range", params=params)

        answer = await self._client.ask(group_of(prefix), once, deadline_s=deadline_s)
        document = answer.json()
        return int(document["revision"]), tuple(_item(one) for one in document["items"])

    async def watch(self, prefix: bytes, revision: int) -> AsyncGenerator[Change, None]:
        """Changes from `revision` on, in order, at one node after another, for ever.

        One revision may change several keys, and a stream may end between two of them: the next
        node is asked for that revision again, and what was given already is passed over.

        Raises Unavailable when no node lets itself be watched, and when the past that is asked for
        was compacted away (code `compacted`): read anew and watch from there.
        """
        failed = 0
        given: set[bytes] = set()
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while failed < len(self._urls):
                url = self._urls[self._turn % len(self._urls)]
                try:
                    async with aclosing(_stream(session, url, prefix, revision)) as changes:
                        async for change in changes:
                            failed = 0
                            if change.item.modified > revision:
                                revision, given = change.item.modified, set()
                            if change.item.key not in given:
                                given.add(change.item.key)
                                yield change
                except (aiohttp.ClientError, TimeoutError):
                    failed += 1
                self._turn += 1
        raise Unavailable("no node of the store lets itself be watched", code="store_away")

    async def _post(
        self, group: int, path: str, document: dict[str, Any] | None, deadline_s: float
    ) -> Answer:
        async def once(client: HttpClient, left_s: float) -> Answer:
            return await client.post(path, document, params={"deadline_s": str(left_s)})

        return await self._client.ask(group, once, deadline_s=deadline_s)


async def _stream(
    session: aiohttp.ClientSession, url: str, prefix: bytes, revision: int
) -> AsyncGenerator[Change, None]:
    """The events of one node. Raises Unavailable if the past is gone, ClientError else."""
    params = {"key": text(prefix), "end": text(Interval.prefix(prefix).end or b"")}
    params |= {"encoding": "base64", "revision": str(revision)}
    async with session.get(f"{url}/v1/watch", params=params) as answer:
        if answer.status == 409:
            raise Unavailable("the changes were compacted away", code="compacted")
        answer.raise_for_status()
        async for line in answer.content:
            if not line.startswith(b"data: "):
                continue
            document = json.loads(line.removeprefix(b"data: "))
            if "kind" not in document:
                raise Unavailable("the changes were compacted away", code="compacted")
            yield Change(document["kind"], _item(document["item"]))


def _item(document: Any) -> KeyValue:
    try:
        return item(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"this is no key of the store: {document!r:.80}") from error


def _put(key: bytes, value: bytes, lease: int) -> dict[str, object]:
    texts = {"key": text(key), "value": text(value), "encoding": "base64"}
    return {"op": "put", **texts, "lease": lease}


def _get(key: bytes) -> dict[str, object]:
    return {"op": "range", "key": text(key), "encoding": "base64"}
