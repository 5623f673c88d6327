"""A replica that takes every write by itself, and keeps the later of two once it hears of both.

    python -m month5_kvstore.experiments.lww_process SETTINGS     a JSON object, see Settings

Writes are stamped by a hybrid clock; replicas fetch each other's writes all the time. Whoever
cannot be reached is asked again later: nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass

import aiohttp
from aiohttp import web

from month5_kvstore.clocks import Stamp, hybrid
from scalelab.clock import SystemClock

_EXCHANGE_S = 0.05
_PATIENCE = aiohttp.ClientTimeout(total=5.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """peers: HOST:PORT of the other replicas."""

    node: int
    port: int
    peers: tuple[str, ...]

    def argv(self) -> tuple[str, ...]:
        """The command of such a process."""
        return ("python", "-m", "month5_kvstore.experiments.lww_process", json.dumps(asdict(self)))


class LastWriteWins:
    """The writes that one replica keeps: of each key the one with the highest stamp."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._kept: dict[str, tuple[Stamp, int]] = {}
        self._highest: Stamp | None = None

    def write(self, key: str, value: int, now_ms: int) -> None:
        """Of a client; later than all that was heard of here."""
        self._take(key, hybrid(self._node, now_ms, self._highest), value)

    def read(self, key: str) -> int:
        """The value of the latest write heard of; 0 if there is none."""
        return self._kept[key][1] if key in self._kept else 0

    def all(self) -> dict[str, list[int]]:
        """What is kept, by key: time, counter and node of the stamp, and the value."""
        return {
            key: [stamp.time, stamp.counter, stamp.node, value]
            for key, (stamp, value) in sorted(self._kept.items())
        }

    def merge(self, kept: Mapping[str, list[int]]) -> None:
        """What another replica keeps."""
        for key, (time, counter, node, value) in kept.items():
            self._take(key, Stamp(time, counter, node), value)

    def _take(self, key: str, stamp: Stamp, value: int) -> None:
        self._highest = stamp if self._highest is None else max(self._highest, stamp)
        if key not in self._kept or self._kept[key][0] < stamp:
            self._kept[key] = (stamp, value)


def app(settings: Settings) -> web.Application:
    """The replica, and what it fetches from the others while it runs."""
    store, clock = LastWriteWins(settings.node), SystemClock()

    async def ready(_request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def read(request: web.Request) -> web.StreamResponse:
        return web.json_response({"value": store.read(request.match_info["key"])})

    async def write(request: web.Request) -> web.StreamResponse:
        now_ms = int(clock.now().timestamp() * 1000)
        store.write(request.match_info["key"], int(await request.json()), now_ms)
        return web.json_response({})

    async def everything(_request: web.Request) -> web.StreamResponse:
        return web.json_response(store.all())

    async def exchanging(_: web.Application) -> AsyncGenerator[None, None]:
        async with aiohttp.ClientSession(timeout=_PATIENCE) as session:
            tasks = [asyncio.create_task(_fetch(session, at, store)) for at in settings.peers]
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    made = web.Application()
    made.router.add_get("/health/ready", ready)
    made.router.add_get("/v1/all", everything)
    made.router.add_get("/v1/kv/{key}", read)
    made.router.add_put("/v1/kv/{key}", write)
    made.cleanup_ctx.append(exchanging)
    return made


async def _fetch(session: aiohttp.ClientSession, peer: str, store: LastWriteWins) -> None:
    """All that a peer keeps, again and again."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.get(f"http://{peer}/v1/all") as answer:
                store.merge(await answer.json())
        await asyncio.sleep(_EXCHANGE_S)


def main() -> None:
    """Serve until a stop signal."""
    given = json.loads(sys.argv[1])
    settings = Settings(given["node"], given["port"], tuple(given["peers"]))
    web.run_app(app(settings), host="127.0.0.1", port=settings.port, print=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()
