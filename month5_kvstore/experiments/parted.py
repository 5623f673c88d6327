"""Links between nodes that can be cut: every node finds each other one through a proxy of its own.

    async with parted_nodes(runtime) as nodes:
        await nodes.links.cut({3})
        ...
        await nodes.links.heal()

A cut link refuses new connections and resets open ones, both ways. Clients are not on these links.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Self

from month5_kvstore.client import KvClient
from month5_kvstore.stack import peer_ports_of, start_stack
from scalelab.clients.http import HttpClient
from scalelab.clock import SystemClock
from scalelab.lab.faults import DelayProxy
from scalelab.lab.runtime import Runtime

NODES = (1, 2, 3)

_FIRST_PORT = 8540
_TIMEOUT_S = 30.0
_WITHIN_S = 60.0
_AGAIN_S = 0.02


class Links:
    """ports: node to where it hears the others. An async context manager; healed at its start."""

    def __init__(self, runtime: Runtime, name: str, ports: Mapping[int, int]) -> None:
        self._proxies = {
            (one, other): DelayProxy(
                ports[other],
                port=runtime.port(f"{name}-{one}-to-{other}", _FIRST_PORT + 10 * one + other),
            )
            for one in ports
            for other in ports
            if one != other
        }
        self._cut: set[tuple[int, int]] = set()

    async def __aenter__(self) -> Self:
        for proxy in self._proxies.values():
            await proxy.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for proxy in self._proxies.values():
            await proxy.stop()

    @property
    def peers(self) -> dict[int, dict[int, str]]:
        """For a node, where it finds each other one: HOST:PORT."""
        found: dict[int, dict[int, str]] = {}
        for (one, other), proxy in self._proxies.items():
            found.setdefault(one, {})[other] = f"127.0.0.1:{proxy.port}"
        return found

    async def cut(self, nodes: Collection[int]) -> None:
        """Part these nodes from all others; among themselves both sides go on."""
        for ends, proxy in self._proxies.items():
            if (ends[0] in nodes) != (ends[1] in nodes):
                self._cut.add(ends)
                await proxy.stop()

    async def heal(self) -> None:
        """Everybody may reach everybody again."""
        for ends in sorted(self._cut):
            await self._proxies[ends].start()
        self._cut.clear()


@dataclass(frozen=True, slots=True)
class PartedNodes:
    """Three nodes of the store whose links can be cut. http: each one's API, asked directly."""

    links: Links
    urls: dict[int, str]
    http: dict[int, HttpClient]

    def client(self, side: Collection[int], seed: int) -> KvClient:
        """For callers that reach these nodes only; to be entered."""
        random = Random(f"{seed} {sorted(side)}")
        return KvClient(
            {node: self.urls[node] for node in side}, clock=SystemClock(), random=random
        )

    async def groups(self, node: int) -> list[dict[str, Any]]:
        """What the node says of each group."""
        answer = await self.http[node].get("/status")
        groups: list[dict[str, Any]] = answer.json()["groups"]
        return groups

    async def is_settled(self) -> bool:
        """Whether every group has a leader, and all nodes have applied the same, all there is."""
        views = [await self.groups(node) for node in NODES]
        applied = [[(one["applied"], one["revision"]) for one in view] for view in views]
        return applied[0] == applied[1] == applied[2] and all(
            one["leader"] and one["applied"] == one["last_index"] for view in views for one in view
        )

    async def leads_nothing(self, node: int) -> bool:
        """Whether it follows nobody and has stepped down wherever it led."""
        return all(one["leader"] == 0 for one in await self.groups(node))


@asynccontextmanager
async def parted_nodes(runtime: Runtime) -> AsyncGenerator[PartedNodes]:
    """Started, connected, and equal; one that dies stays dead until it is restarted. One such bed a
    runtime."""
    async with AsyncExitStack() as held:
        ports = peer_ports_of(runtime, len(NODES))
        links = await held.enter_async_context(Links(runtime, "kvnode", ports))
        stack = await asyncio.to_thread(start_stack, runtime, restart=False, peers=links.peers)
        http = {
            node: await held.enter_async_context(HttpClient(url, timeout_s=_TIMEOUT_S))
            for node, url in stack.urls.items()
        }
        nodes = PartedNodes(links, stack.urls, http)
        await until(nodes.is_settled, "three equal nodes")
        yield nodes


async def until(claim: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask until the claim holds. Raises TimeoutError with `what` after a minute."""
    end_s = time.monotonic() + _WITHIN_S
    while not await claim():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {_WITHIN_S:.0f} s: {what}")
        await asyncio.sleep(_AGAIN_S)
