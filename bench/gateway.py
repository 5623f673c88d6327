"""The gateway beside nginx, aiohttp, FastAPI + httpx and a bare proxy; large bodies; latency.

One upstream process answers 280 bytes of JSON; this process is the load, keep-alive. The number is
CPU of the process under test, user and system with its children, per answered request: it does not
depend on how busy the other cores are. The upstream's own CPU is the floor for a process that reads
and writes one small message; a proxy does that twice. Latency is an open loop at half of what the
gateway carried, beside the same load sent straight to the upstream; with fewer than three cores the
load shares them with its subject, so it is shown and judged by nobody.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import psutil
import uvloop

from bench._gateway_bodies import MEGABYTE, SIZE, download, stalled, upload
from month1_caching_gateway.experiments.overhead_load import Target, closed_loop, open_loop
from month1_caching_gateway.experiments.overhead_process import BODY, process, request_with
from scalelab.lab.course.bench import AnyFigure, Figure, LimitFigure, Options
from scalelab.lab.course.machine import usable_cores
from scalelab.lab.course.ratio import Round, compare, is_void
from scalelab.lab.course.rounds import paired
from scalelab.lab.servers import Nginx, Redis, ServerMissing
from scalelab.lab.servers.processes import family

MONTH = "month1"
_CONNECTIONS = 32
_ROUND_S = 1.5
"""Ten pairs share this bench's time; CPU per request says as much in half a round."""
_ENOUGH_CORES = 3
_UNIT = "CPU µs/request"

_NGINX = """
  upstream app { server 127.0.0.1:UPSTREAM; keepalive 256; }
  server {
    listen 127.0.0.1:$PORT;
    keepalive_requests 100000000;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
"""


_NGINX_STREAMING = """
  upstream app { server 127.0.0.1:UPSTREAM; keepalive 256; }
  server {
    listen 127.0.0.1:$PORT;
    client_max_body_size 0;
    location / {
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off;
    }
  }
"""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A process under test and how to ask it. costs, rates: of every round so far."""

    pid: int
    target: Target
    runner: asyncio.Runner
    costs_us: list[float]
    rates_per_s: list[float]

    def measure(self, seconds: float) -> float:
        """CPU µs per request of one round in a closed loop."""
        before_s, begun_s = _cpu_s(self.pid), time.perf_counter()
        load = closed_loop(self.target, connections=_CONNECTIONS, seconds=seconds)
        answers = self.runner.run(load)
        self.rates_per_s.append(answers / (time.perf_counter() - begun_s))
        self.costs_us.append((_cpu_s(self.pid) - before_s) / answers * 1e6)
        return self.costs_us[-1]

    def latencies_ms(self, rate_per_s: float, seconds: float, seed: int) -> list[float]:
        """Sorted latencies of one round in an open loop; the same seed plans the same instants."""
        load = open_loop(
            self.target, rate_per_s=rate_per_s, seconds=seconds, generator=random.Random(seed)
        )
        return self.runner.run(load)


def run(options: Options) -> list[AnyFigure]:
    """All figures; takes about six minutes."""
    options = replace(options, round_s=min(options.round_s, _ROUND_S))
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        upstream = stack.enter_context(_arm(runner, "upstream"))
        to = ("--upstream", str(upstream.target.port))

        def arm(role: str, *more: str) -> _Subject:
            return stack.enter_context(_arm(runner, role, *to, *more))

        plain, full, bare = arm("gateway"), arm("gateway-full"), arm("bare")
        shared = arm("gateway-full", "--redis", _redis(options))
        control = compare(_rounds(options, "gateway, twice", plain, plain), options.generator)
        if is_void(control):
            options.note(f"the control is off: {control.ratio:.3f}; this machine is too busy")
        ours = ("pass-through", plain)
        figures: list[AnyFigure] = [
            _ratio(options, ours, ("aiohttp proxy, tuned", arm("aiohttp")), 4.0),
            _ratio(options, ours, ("aiohttp proxy, as written", arm("aiohttp-simple")), 4.0),
            _ratio(options, ours, ("FastAPI + httpx", arm("fastapi-httpx")), 20.0),
        ]
        nginx = _nginx(options, runner, "small", _NGINX, upstream.target.port)
        if nginx is not None:
            figures += [
                _ratio(options, ours, ("nginx", nginx), 0.4),
                _ratio(options, ("token, limit, metrics", full), ("nginx", nginx), 0.24),
            ]
        figures.append(_ratio(options, ("token, limit, metrics", full), ours, 0.6))
        _rounds(options, "the ceiling, and no proxy", bare, upstream)
        _rounds(options, "limits in Redis, and none", shared, plain)
        named = {
            "no proxy: the upstream alone": upstream,
            "bare proxy: no duty kept, the ceiling": bare,
            "pass-through": plain,
            "token, limit, metrics": full,
            "the same, limits in Redis": shared,
        }
        costs = {name: median(one.costs_us[1:]) for name, one in named.items()}
        figures += [_shown(name, _UNIT, cost) for name, cost in costs.items()]
        share = costs["bare proxy: no duty kept, the ceiling"] / costs["pass-through"]
        figures.append(_shown("pass-through, of the ceiling", "share", share))
        added_us = costs["token, limit, metrics"] - costs["pass-through"]
        figures.append(_shown("the checks, added", _UNIT, added_us, 80.0))
        return figures + _latencies(options, plain, upstream) + _bodies(options, runner)


def _ratio(
    options: Options, ours: tuple[str, _Subject], peer: tuple[str, _Subject], gate: float
) -> Figure:
    """The peer's cost divided by ours."""
    rounds = _rounds(options, f"{ours[0]}, {peer[0]}", peer[1], ours[1])
    ratio = compare(rounds, options.generator)
    return Figure("gateway", ours[0], peer[0], f"{_UNIT}, peer / ours", ratio, "at_least", gate)


def _rounds(options: Options, what: str, a: _Subject, b: _Subject) -> list[Round]:
    options.note(f"in turns: {what}")
    return paired(a.measure, b.measure, rounds=options.rounds, round_s=options.round_s)


def _nginx(
    options: Options, runner: asyncio.Runner, name: str, config: str, upstream_port: int
) -> _Subject | None:
    """The ruler: a proxy in C that has been made faster for twenty years."""
    nginx = Nginx(config.replace("UPSTREAM", str(upstream_port)), f"nginx-{name}")
    try:
        options.runtime.start(nginx)
    except ServerMissing as missing:
        options.note(f"without nginx: {missing}")
        return None
    (pid,) = (one.pid for one in options.runtime.status() if one.name == nginx.name)
    return _Subject(pid or 0, _target(nginx.port, "none"), runner, [], [])


def _bodies(options: Options, runner: asyncio.Runner) -> list[AnyFigure]:
    """100 MB down and up beside nginx without buffering, and what a reader that stalls costs."""
    with ExitStack() as stack:
        service = stack.enter_context(_arm(runner, "bodies"))
        to = ("--upstream", str(service.target.port))
        ours = stack.enter_context(_arm(runner, "gateway-streaming", *to))
        nginx = _nginx(options, runner, "bodies", _NGINX_STREAMING, service.target.port)
        stalled_mb = _slow(runner, ours)  # first: later the process keeps what bodies needed
        figures: list[AnyFigure] = [
            _shown("memory of a reader that stalls", "MB", stalled_mb, 2.0),
        ]
        for what, move in (("100 MB answers", download), ("100 MB uploads", upload)):
            if nginx is None:
                break
            options.note(f"in turns: {what}")
            rounds = paired(
                lambda _s, move=move: _cpu_of(runner, nginx, move),
                lambda _s, move=move: _cpu_of(runner, ours, move),
                rounds=options.rounds,
                round_s=0.0,
            )
            unit = "CPU µs/MB, peer / ours"
            ratio = compare(rounds, options.generator)
            figures.append(
                Figure("gateway", what, "nginx, buffering off", unit, ratio, "at_least", 0.4)
            )
        return figures


def _cpu_of(
    runner: asyncio.Runner, subject: _Subject, move: Callable[[int, int], Coroutine[Any, Any, None]]
) -> float:
    before_s = _cpu_s(subject.pid)
    runner.run(move(subject.target.port, 2))
    return (_cpu_s(subject.pid) - before_s) / (2 * SIZE / MEGABYTE) * 1e6


def _slow(runner: asyncio.Runner, ours: _Subject) -> float:
    """MB of resident memory that the gateway grows by for each of 20 readers that stall."""
    readers = 20

    async def grown() -> float:
        process = psutil.Process(ours.pid)
        before = process.memory_info().rss
        async with stalled(ours.target.port, readers):
            return (process.memory_info().rss - before) / readers / MEGABYTE

    return runner.run(grown())


def _redis(options: Options) -> str:
    redis = Redis("redis")
    options.runtime.start(redis)
    return redis.url


def _latencies(options: Options, ours: _Subject, control: _Subject) -> list[AnyFigure]:
    """At half of what the gateway carried in its closed loops, in turns with no proxy."""
    rate = median(ours.rates_per_s) / 2
    options.note(f"open loop at {rate:.0f}/s: the gateway, no proxy")
    arms: dict[str, tuple[_Subject, list[list[float]]]] = {
        "pass-through": (ours, []),
        "no proxy": (control, []),
    }
    for number in range(options.rounds):
        seed = options.generator.randrange(2**31)
        for subject, rounds in list(arms.values())[:: -1 if number % 2 else 1]:
            rounds.append(subject.latencies_ms(rate, options.round_s, seed))
    figures: list[AnyFigure] = []
    for share, name, limit in ((0.50, "p50", 0.5), (0.99, "p99", 3.0)):
        found = {
            arm: median(one[int(share * (len(one) - 1))] for one in rounds)
            for arm, (_, rounds) in arms.items()
        }
        figures += [
            _shown(f"{name} at {rate:.0f}/s, {arm}", "ms", value) for arm, value in found.items()
        ]
        added = found["pass-through"] - found["no proxy"]
        judged = limit if usable_cores() >= _ENOUGH_CORES else None
        figures.append(_shown(f"{name} at {rate:.0f}/s, added", "ms", added, judged))
    return figures


def _shown(subject: str, unit: str, value: float, limit: float | None = None) -> LimitFigure:
    return LimitFigure("gateway", subject, unit, round(value, 3), "at_most", limit)


@contextmanager
def _arm(runner: asyncio.Runner, role: str, *options: str) -> Generator[_Subject]:
    """A process of that role; it ends when its standard input is closed."""
    with process(["bench._gateway_arms", role, *options]) as (pid, port, token):
        yield _Subject(pid, _target(port, token), runner, [], [])


def _target(port: int, token: str) -> Target:
    return Target(port, request_with(token), BODY)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, user and system."""
    return sum(sum(member.cpu_times()[:2]) for member in family(pid))
