"""Three real processes of one service behind a gateway of this process."""

from __future__ import annotations

import asyncio
import http.client
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalelab.lab.runtime import Runtime
from scalelab.lab.servers.service import ServiceSpec
from tests.integration.month1.gateway.harness import DEADLINE_S, Got, Running, client, running

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """One of them. effects: what it did, a line each; outlives it."""

    name: str
    port: int
    effects: Path

    def did(self) -> Counter[str]:
        """How often it did what."""
        return (
            Counter(self.effects.read_text().splitlines()) if self.effects.exists() else Counter()
        )

    def misbehave(self, mode: str) -> None:
        """Answer in another way from now on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.request("PUT", "/mode", body=mode)
            assert connection.getresponse().status == 200
        finally:
            connection.close()


@contextmanager
def started(runtime: Runtime, folder: Path, count: int = 3) -> Iterator[list[NodeProcess]]:
    """So many nodes, stopped at the end."""
    nodes: list[NodeProcess] = []
    specs: list[ServiceSpec] = []
    for _ in range(count):
        name = f"node-{next(_NUMBERS)}"
        node = NodeProcess(name, runtime.port(name, 8000), folder / f"{name}.effects")
        env = {
            "NODE_NAME": name,
            "NODE_PORT": str(node.port),
            "NODE_EFFECTS": str(node.effects),
        }
        argv = ("python", "-m", "tests.integration.month1.balancing.node")
        specs.append(ServiceSpec(name, argv, node.port, env))
        nodes.append(node)
    runtime.services(*specs)
    try:
        yield nodes
    finally:
        for node in nodes:
            runtime.kill(node.name)


def done_by_all(nodes: list[NodeProcess]) -> Counter[str]:
    """What all of them did together."""
    return sum((node.did() for node in nodes), Counter[str]())


@asynccontextmanager
async def in_front_of(nodes: list[NodeProcess], **described: Any) -> AsyncIterator[Running]:
    """A gateway with these nodes as its upstream `app`."""
    async with running(nodes, **described) as gateway:  # type: ignore[arg-type]
        yield gateway


async def ask_all(
    gateway: Running, method: str, targets: list[str], *, callers: int = 4, **headers: str
) -> dict[str, Got]:
    """The answers by target, asked for by so many callers at a time, each on one connection."""
    waiting = iter(targets)
    answers: dict[str, Got] = {}

    async def caller() -> None:
        async with client(gateway.port) as http:
            for target in waiting:
                body = None if method == "GET" else b"{}"
                answers[target] = await http.ask(method, target, body, **headers)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return answers
