"""Servers that push the same messages to many WebSocket clients; one process each, see status.py.

    python -m bench._status_arms ours|ours-at-once DSN ORDERS
    python -m bench._status_arms broadcast - 1

Says where it listens, with which token, and for which orders, as one line of JSON. Then a line of
standard input has it do something and say one line when that is done: `send N` moves each of the
first N orders on by `TIMES` versions (`send N TIMES`), `waiting` tells the bytes that wait for
clients. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from month3_messaging.experiments.status_bed import orders_on
from month3_messaging.orders import Status, StatusChange
from month3_messaging.status import SocketSettings
from scalelab.web.process import calm_collector

CLIENTS_MAX = 4000
_AT = datetime(2026, 1, 1, tzinfo=UTC)

Send = Callable[[int, int], int]
"""(orders, times) -> the version that each of them has then."""


async def ours(dsn: str, number: int, *, at_once: bool) -> None:
    """The month's listener. at_once: every update is written by itself, as it comes."""
    settings = SocketSettings(sweep_s=3600.0)
    if at_once:
        settings = replace(settings, tick_s=None)
    async with orders_on(dsn, streams_max=CLIENTS_MAX, settings=settings) as orders:
        order_ids = [await orders.place() for _ in range(number)]
        version = 1

        def send(first: int, times: int) -> int:
            nonlocal version
            for _ in range(times):
                version += 1
                change = StatusChange(version, Status.PENDING, _AT)
                for order_id in order_ids[:first]:
                    orders.sockets.followers.spread(order_id, change)
            return version

        token = orders.bearer["Authorization"]
        await _obey(orders.live_port, token, order_ids, send, orders.sockets.waiting_bytes)


async def peer() -> None:
    """websockets' own broadcast of a message that was made once, in the form of ours."""
    opened: set[ServerConnection] = set()
    order_id = uuid4()
    version = 1

    async def keep(connection: ServerConnection) -> None:
        opened.add(connection)
        try:
            await connection.wait_closed()
        finally:
            opened.discard(connection)

    def send(_first: int, times: int) -> int:
        nonlocal version
        for _ in range(times):
            version += 1
            told = {
                "type": "status",
                "order_id": str(order_id),
                "status": Status.PENDING.value,
                "version": version,
                "at": _AT.isoformat(),
            }
            broadcast(opened, json.dumps(told, separators=(",", ":")))
        return version

    async with serve(keep, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await _obey(port, "Bearer none", [order_id], send, lambda: 0)


async def _obey(
    port: int, token: str, order_ids: list[UUID], send: Send, waiting: Callable[[], int]
) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    calm_collector()
    _say({"port": port, "token": token, "orders": [str(one) for one in order_ids]})
    while line := await reader.readline():
        match line.split():
            case [b"send", first, times]:
                _say(send(int(first), int(times)))
            case [b"waiting"]:
                _say(waiting())
            case _:
                raise SystemExit(f"unknown command: {line!r}")


def _say(told: object) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve one role."""
    role, dsn, number = sys.argv[1:]
    if role == "broadcast":
        uvloop.run(peer())
    else:
        uvloop.run(ours(dsn, int(number), at_once=role == "ours-at-once"))


if __name__ == "__main__":
    main()
