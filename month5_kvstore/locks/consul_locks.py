"""Locks in Consul: a key that a session has acquired; the index of that change is the token.

Consul keeps a session for 10 s at least, may need twice its time to notice its end, and would bar
the lock for another 15 s then. That last delay stands in for a fence; with tokens it is not needed,
and is switched off here.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from month5_kvstore.locks.locks import LockLost, check_names, check_ttl
from scalelab.clients.http import HttpClient
from scalelab.errors import NotFound, Retryable

_TTL_LEAST_S = 10.0
_PREFIX = "/v1/kv/scalelab-locks/"


@dataclass(frozen=True, slots=True)
class ConsulHold:
    """Made by `ConsulLocks.acquire`. token: the index at which the session got the key."""

    http: HttpClient
    name: str
    holder: str
    token: int
    session: str

    async def renew(self) -> None:
        """Keep the session alive."""
        try:
            await self.http.put(f"/v1/session/renew/{self.session}")
        except NotFound as error:
            raise LockLost(f"the session of {self.holder} has ended") from error

    async def release(self) -> None:
        """End the session; Consul deletes its key with it."""
        with suppress(NotFound):
            await self.http.put(f"/v1/session/destroy/{self.session}")


class ConsulLocks:
    """http: of one agent; stays the caller's."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> ConsulHold | None:
        """A session, and the key for it if nobody's has it; else the session goes."""
        check_names(name, holder)
        check_ttl(ttl_s, _TTL_LEAST_S)
        if await self.holder(name) is not None:
            return None
        wanted = {"TTL": f"{int(ttl_s * 1000)}ms", "LockDelay": "0s", "Behavior": "delete"}
        made = await self._http.put("/v1/session/create", {**wanted, "Name": holder})
        session = str(made.json()["ID"])
        try:
            params = {"acquire": session}
            got = await self._http.put(_PREFIX + name, {"holder": holder}, params=params)
            found = await self._find(name) if got.body.strip() == b"true" else None
        except Retryable:
            with suppress(Retryable):
                await self._http.put(f"/v1/session/destroy/{session}")
            raise
        if found is None or found.get("Session") != session:
            await self._http.put(f"/v1/session/destroy/{session}")
            return None
        return ConsulHold(self._http, name, holder, int(found["ModifyIndex"]), session)

    async def holder(self, name: str) -> str | None:
        """Who has it: the name of the session that the key belongs to."""
        check_names(name)
        found = await self._find(name)
        if found is None or "Session" not in found:
            return None
        answer = await self._http.get(f"/v1/session/info/{found['Session']}")
        sessions: list[Any] = answer.json()
        return str(sessions[0]["Name"]) if sessions else None

    async def _find(self, name: str) -> dict[str, Any] | None:
        params = {"consistent": ""}
        answer = await self._http.get(_PREFIX + name, params=params, accept=frozenset({404}))
        return None if answer.status == 404 else answer.json()[0]
