"""Order status over WebSockets: our fan-out beside websockets.broadcast, coalescing, idle clients.

Each server is a process of its own; this process is its clients and reads every frame. A round is
one command to the server and ends when every client has met the round's version of every order, so
a sink that stalls cannot look like coalescing. The number is CPU of the server per delivery: an
update that one client has. Nothing is sent by a database here: updates are handed to the listener
as its hub does, for the fan-out is what is compared.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import psutil
import uvloop

from bench._status_arms import CLIENTS_MAX
from bench._status_load import Served, follow_frame, served
from month3_messaging.orders import MIGRATIONS
from scalelab.clients.migrations import upgrade
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.ratio import Round, compare, is_void
from scalelab.lab.course.rounds import paired
from scalelab.lab.servers import Postgres

MONTH = "month3"
_CLIENTS = 200
_ORDERS = 10
_IDLE = 2000
_STUCK_ROUNDS = 500
_ROUND_S = 1.5
_UNIT = "CPU µs/delivery, peer / ours"

assert _IDLE <= CLIENTS_MAX


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about three minutes."""
    postgres = Postgres("postgres", settings={"fsync": "off"})
    options.runtime.start(postgres)
    dsn = postgres.ensure_database("status", "status")
    upgrade(dsn, MIGRATIONS)
    options = replace(options, round_s=min(options.round_s, _ROUND_S))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return [
            *_fan_out(options, runner, dsn),
            *runner.run(_stuck(options, dsn)),
            *runner.run(_idle(options, dsn)),
        ]


def _fan_out(options: Options, runner: asyncio.Runner, dsn: str) -> list[AnyFigure]:
    arms = {"ours": _ORDERS, "ours-at-once": _ORDERS, "broadcast": 1}
    opened = {role: served(role, dsn, orders) for role, orders in arms.items()}
    running = {role: runner.run(context.__aenter__()) for role, context in opened.items()}
    try:
        for role, server in running.items():
            options.note(f"{_CLIENTS} clients of {role}")
            following = 0 if role == "broadcast" else _ORDERS
            runner.run(server.connect(_CLIENTS, following=following))
        return _ratios(options, runner, running)
    finally:
        for context in opened.values():
            runner.run(context.__aexit__(None, None, None))


def _ratios(
    options: Options, runner: asyncio.Runner, running: dict[str, Served]
) -> list[AnyFigure]:
    costs: dict[str, list[float]] = {}

    def arm(role: str, orders: int, times: int) -> Callable[[float], float]:
        def measure(seconds: float) -> float:
            cost = runner.run(_cost_us(running[role], seconds, orders, times))
            costs.setdefault(f"{role}, {orders} × {times}", []).append(cost)
            return cost

        return measure

    def rounds(what: str, a: Callable[[float], float], b: Callable[[float], float]) -> list[Round]:
        options.note(f"in turns: {what}")
        return paired(a, b, rounds=options.rounds, round_s=options.round_s)

    def figure(subject: str, peer: str, pairs: list[Round], gate: float) -> Figure:
        ratio = compare(pairs, options.generator)
        return Figure("status", subject, peer, _UNIT, ratio, "at_least", gate)

    single = arm("ours-at-once", 1, 1)
    control = compare(rounds("ours, twice", single, single), options.generator)
    if is_void(control):
        options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
    figures: list[AnyFigure] = [
        figure(
            "an update, written at once",
            "websockets.broadcast",
            rounds("ours, broadcast", arm("broadcast", 1, 1), single),
            0.9,
        ),
        figure(
            f"{_ORDERS} orders in a tick, joined",
            "the same, each written at once",
            rounds("joined, at once", arm("ours-at-once", _ORDERS, 1), arm("ours", _ORDERS, 1)),
            5.0,
        ),
        figure(
            f"{_ORDERS} updates of an order in a tick, the last one pushed",
            "each written at once",
            rounds("the last, all", arm("ours-at-once", 1, _ORDERS), arm("ours", 1, _ORDERS)),
            5.0,
        ),
    ]
    for name, found in costs.items():
        middle = sorted(found[1:])[len(found[1:]) // 2]
        figures.append(
            LimitFigure("status", name, "CPU µs/delivery", round(middle, 2), "at_most", None)
        )
    return figures


async def _cost_us(server: Served, seconds: float, orders: int, times: int) -> float:
    """CPU µs of the server per update and client, over rounds of `orders` × `times` updates."""
    before_s, end_s, rounds = _cpu_s(server.pid), time.perf_counter() + seconds, 0
    while time.perf_counter() < end_s:
        await server.round(orders, times)
        rounds += 1
    deliveries = rounds * orders * times * len(server.clients)
    return (_cpu_s(server.pid) - before_s) / deliveries * 1e6


async def _stuck(options: Options, dsn: str) -> list[AnyFigure]:
    """Rounds beside a client that never reads: who lags, and what waits for it."""
    options.note("a client that never reads")
    async with served("ours", dsn, _ORDERS) as server, _silent(server):
        await server.connect(_CLIENTS // 4, following=_ORDERS)
        behind = most = 0
        for _ in range(_STUCK_ROUNDS):
            try:
                await server.round(_ORDERS, 1)
            except TimeoutError:
                behind = server.rounds.left
                break
            most = max(most, int(await server.ask("waiting")))
        if most == 0:
            raise AssertionError("it never stalled: nothing was judged")
        return [
            LimitFigure("status", "updates it delays", "updates", behind, "at_most", 0),
            LimitFigure("status", "what waits for it", "KiB", round(most / 1024, 1), "at_most", 34),
        ]


@asynccontextmanager
async def _silent(server: Served) -> AsyncGenerator[None]:
    """A client with a small buffer that follows the order and reads nothing."""
    loop = asyncio.get_running_loop()
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.setblocking(False)
        await loop.sock_connect(opened, ("127.0.0.1", server.port))
        await loop.sock_sendall(opened, server.head)
        await loop.sock_recv(opened, 4096)
        for order_id in server.orders:
            await loop.sock_sendall(opened, follow_frame(order_id))
        yield


async def _idle(options: Options, dsn: str) -> list[AnyFigure]:
    """2,000 clients on one process: what one costs while nothing happens, and that all are told."""
    figures: list[AnyFigure] = []
    for role, following, limit in (("ours", 1, 60.0), ("broadcast", 0, None)):
        options.note(f"{_IDLE} clients of {role}")
        async with served(role, dsn, 1) as server:
            # What the first clients cost once (imports, caches) is no client's.
            await server.connect(100, following=following)
            before = _memory_kb(server.pid)
            await server.connect(_IDLE - 100, following=following)
            grown = (_memory_kb(server.pid) - before) / (_IDLE - 100)
            await server.round(1, 1)
            told = len(server.clients)
        name = "an idle client" if role == "ours" else "an idle client of websockets"
        figures.append(LimitFigure("status", name, "KB", round(grown, 1), "at_most", limit))
        if role == "ours":
            figures.append(LimitFigure("status", "told at once", "clients", told, "at_least", 2000))
    return figures


def _memory_kb(pid: int) -> float:
    return psutil.Process(pid).memory_full_info().pss / 1000


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process, user and system."""
    return sum(psutil.Process(pid).cpu_times()[:2])
