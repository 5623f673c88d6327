"""Ask the nodes themselves who leads, over Patroni's HTTP interface.

`GET /primary` answers 200 only on the node that holds the lease; the role in the answer says
whether its PostgreSQL has been promoted already.
A frozen or dead node says nothing: it costs one deadline, and the others are asked meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Self

import httpx

from month2_databases.failover.leadership import Claim, choose
from scalelab.errors import InvalidInput

_LEADING = ("primary", "master")


class PatroniDirectory:
    """The nodes of one cluster: name to base address. deadline_s: of one node's answer.

    An async context manager that owns the HTTP connections. It raises nothing about dead nodes.
    """

    def __init__(self, nodes: Mapping[str, str], *, deadline_s: float = 1.0) -> None:
        if not nodes:
            raise InvalidInput("a cluster has at least one node", field="nodes")
        self._nodes = dict(nodes)
        self._client = httpx.AsyncClient(timeout=deadline_s, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._client.aclose()

    async def leader(self, *, fence: int) -> Claim | None:
        """Whom to write to now, or None. fence: see leadership.choose."""
        return choose(await self.claims(), fence=fence)

    async def claims(self) -> list[Claim]:
        """Every node that says it leads. All are asked at once."""
        answers = await asyncio.gather(*(self.claim(name) for name in self._nodes))
        return [claim for claim in answers if claim is not None]

    async def claim(self, name: str) -> Claim | None:
        """What one node says: its claim, or None if it does not lead or does not answer."""
        try:
            answer = await self._client.get(f"{self._nodes[name]}/primary")
        except httpx.HTTPError:
            return None
        if not answer.is_success:
            return None
        try:
            body: Any = answer.json()
            # The lease is won a little before PostgreSQL has left recovery.
            return Claim(name, int(body["timeline"])) if body["role"] in _LEADING else None
        except (ValueError, KeyError, TypeError):
            return None
