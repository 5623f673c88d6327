"""The shop as a whole: time to the first order, memory, checkout at 50 orders/s, commit to topic.

Figures without a peer: each stands beside the limit the project set itself. With fewer than three
cores the load shares them with the shop, so latencies are upper bounds: shown, and judged by
nobody. Beside the checkout stands its control arm: the same shoppers at a tenth of the rate.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from month6_capstone.demo.figures import open_work, publish_lag_ms
from month6_capstone.demo.first_order import place_and_watch
from month6_capstone.load import (
    ClientLog,
    LoadSettings,
    Measurements,
    Mix,
    Shopper,
    percentile,
    plan,
)
from month6_capstone.load import Shop as FrontDoor
from month6_capstone.load import run as run_load
from month6_capstone.seeding import demo_user_id
from month6_capstone.stack import Seed, Shop, start_shop
from month6_capstone.topology import DEMO_PASSWORD, demo_emails
from scalelab.clock import SystemClock
from scalelab.lab.course.bench import LimitFigure, Options
from scalelab.lab.course.machine import usable_cores
from scalelab.lab.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

MONTH = "month6"
MIB = 1024 * 1024
USERS = 40
CHECKOUT_PER_S = 50.0
ENOUGH_CORES = 3
_QUIET_TRIES = 240


def run(options: Options) -> list[LimitFigure]:
    """All figures of the shop, as processes and as a monolith."""
    clock = SystemClock()
    figures: list[LimitFigure] = []
    for monolith in (False, True):
        name = "monolith" if monolith else "processes"
        folder = options.runtime.root / name
        options.note(f"starting the shop as {name}")
        begun_s = clock.monotonic_s()
        with Runtime(folder, private=True) as runtime:
            shop = start_shop(runtime, monolith=monolith, seed=Seed(users=USERS))
            figures += asyncio.run(_measure(options, shop, name, folder, begun_s))
    return figures


async def _measure(
    options: Options, shop: Shop, name: str, folder: Path, begun_s: float
) -> list[LimitFigure]:
    clock = SystemClock()
    memory_limit = 1024.0 if shop.monolith else 2048.0
    with ClientLog(folder / "client.jsonl") as log:
        settings = LoadSettings(shop.url)
        async with FrontDoor(settings, log, Measurements(), clock) as door:
            shoppers = [
                Shopper(demo_user_id(email), await door.log_in(email, DEMO_PASSWORD))
                for email in demo_emails(USERS)
            ]
            await place_and_watch(door, shoppers[0], shop.url, clock)
        first_s = clock.monotonic_s() - begun_s
        figures = [_limit("first confirmed order", name, "s", first_s, 20.0)]
        for rate in (CHECKOUT_PER_S / 10, CHECKOUT_PER_S):
            options.note(f"{name}: checkout at {rate:.0f} orders/s")
            measured = Measurements()
            async with FrontDoor(settings, log, measured, clock) as door:
                await _load(door, shoppers, rate, options, clock)
            await _until_quiet(shop)
            checkout = measured.summary_ms("checkout")
            at = f"checkout (202) at {rate:.0f}/s"
            figures.append(_latency(f"{at}, p50", name, checkout["p50"], 75.0))
            figures.append(_latency(f"{at}, p99", name, checkout["p99"], 150.0))
    lag = publish_lag_ms(shop.addresses)
    figures.append(_latency("commit to topic, p95", name, percentile(lag, 0.95), 100.0))
    pss = sum(status.pss_bytes or 0 for status in shop.runtime.status()) / MIB
    figures.append(_limit("memory of everything (PSS)", name, "MiB", pss, memory_limit))
    return figures


async def _load(
    door: FrontDoor,
    shoppers: Sequence[Shopper],
    rate: float,
    options: Options,
    clock: SystemClock,
) -> None:
    seconds = options.round_s * options.rounds
    visits = plan(
        seed=options.generator.randrange(2**31),
        users=len(shoppers),
        products=500,
        orders_per_s=rate,
        seconds=seconds,
        mix=replace(Mix(), pages_per_order=2),
    )
    await run_load(door, shoppers, visits, clock)


async def _until_quiet(shop: Shop) -> None:
    """Until no order is open; the stores are asked, because nothing announces silence."""
    for _ in range(_QUIET_TRIES):
        if await asyncio.to_thread(open_work, shop.addresses) == 0:
            return
        await asyncio.sleep(0.5)


def _limit(subject: str, name: str, unit: str, value: float, limit: float) -> LimitFigure:
    return LimitFigure("demo", f"{subject} · {name}", unit, round(value, 1), "at_most", limit)


def _latency(subject: str, name: str, value_ms: float, limit_ms: float) -> LimitFigure:
    judged = limit_ms if usable_cores() >= ENOUGH_CORES else None
    return LimitFigure("demo", f"{subject} · {name}", "ms", round(value_ms, 1), "at_most", judged)
