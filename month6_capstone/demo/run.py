"""The demo: start the shop, sell, break one thing, wait for the end, count, judge.

The first of the seeded accounts belongs to people: no shopper of the load uses it, so the client's
log is complete for every account it speaks for, whatever a person orders meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from month6_capstone.demo.fault import kill_and_wait
from month6_capstone.demo.figures import open_work, read_figures
from month6_capstone.demo.first_order import place_and_watch
from month6_capstone.demo.report import MIB, Books, Fault, Report
from month6_capstone.load import (
    ClientLog,
    LoadSettings,
    Measurements,
    Mix,
    Shopper,
    plan,
)
from month6_capstone.load import (
    Shop as FrontDoor,
)
from month6_capstone.load import (
    run as run_load,
)
from month6_capstone.seeding import demo_user_id
from month6_capstone.stack import Seed, Shop, start_shop
from month6_capstone.topology import DEMO_PASSWORD, demo_emails
from month6_capstone.truth import TruthSettings, collect, judge
from scalelab.clock import Clock
from scalelab.lab.runtime import Progress, Runtime

_LOOK_EVERY_S = 0.5
_TWICE = frozenset(
    {
        "charged_once",
        "refunded_once",
        "event_committed_once",
        "one_order_per_request",
        "order_answered_once",
        "same_order_on_every_answer",
        "order_on_one_shard",
    }
)
"""Rules whose violation is an effect that happened twice."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a run does. seconds of load at orders_per_s; settle_s: patience for the last order."""

    seed: int = 1
    seconds: float = 30.0
    orders_per_s: float = 15.0
    users: int = 40
    products: int = 500
    monolith: bool = False
    fault: bool = True
    settle_s: float = 120.0
    front_host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the demo tells whoever watches. phase: a sentence; server: a server's progress."""

    phase: Callable[[str], None]
    server: Callable[[Progress], None]
    load: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the stores said at the end. events_per_topic counts records, copies included."""

    books: Books
    duplicates: int
    stuck: int
    events_per_topic: dict[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run: its report and its folder."""

    report: Report
    folder: Path


def begin(
    folder: Path, options: DemoOptions, hooks: Hooks, *, private: bool
) -> tuple[Runtime, Shop]:
    """Start the shop in `folder`; the caller closes the runtime and removes its data.

    Raises ServerMissing or ServerFailed with a sentence for a person.
    """
    runtime = Runtime(folder, private=private, observer=hooks.server, keep_data=True)
    try:
        seed = Seed(products=options.products, users=options.users, number=options.seed)
        shop = start_shop(
            runtime, monolith=options.monolith, seed=seed, front_host=options.front_host
        )
    except BaseException:
        runtime.close()
        raise
    return runtime, shop


def sell_and_judge(
    shop: Shop, options: DemoOptions, hooks: Hooks, *, since_s: float, clock: Clock
) -> Outcome:
    """Run the shoppers, the fault and the reconciliation on a started shop.

    since_s: reading of `clock` when the demo was asked for, for the time to the first order.
    """
    folder = shop.runtime.root
    measured = Measurements()
    log_path = folder / "client.jsonl"
    first_s, fault = asyncio.run(
        _sell(shop, options, hooks, measured, log_path, since_s=since_s, clock=clock)
    )
    hooks.phase("waiting until every order has ended, then asking every store")
    memory = _memory(shop.runtime)
    settings = truth_settings(shop, log_path)
    verdict = asyncio.run(_settle(shop, settings, options.settle_s, clock))
    report = _report(shop, options, measured, verdict, first_s, fault, memory)
    _write_report(folder, report)
    return Outcome(report, folder)


def truth_settings(shop: Shop, client_log: Path | None) -> TruthSettings:
    """Where `verify` finds the stores of a running shop."""
    at = shop.addresses
    return TruthSettings(
        shards={shard.name: shard.primary_dsn for shard in at.shards},
        payments=at.dsns["payments"],
        inventory=at.dsns["inventory"],
        kafka_bootstrap=at.kafka_bootstrap,
        book_path=at.book_path,
        client_log=client_log,
    )


async def _sell(
    shop: Shop,
    options: DemoOptions,
    hooks: Hooks,
    measured: Measurements,
    log_path: Path,
    *,
    since_s: float,
    clock: Clock,
) -> tuple[float, Fault | None]:
    with ClientLog(log_path) as log:
        async with FrontDoor(LoadSettings(shop.url), log, measured, clock) as door:
            hooks.phase("the first order")
            first_email, *other_emails = demo_emails(options.users)[1:]
            shoppers = [await _sign_in(door, first_email)]
            await place_and_watch(door, shoppers[0], shop.url, clock)
            first_s = round(clock.monotonic_s() - since_s, 1)
            hooks.phase(f"first confirmed order after {first_s} s; the other shoppers sign in")
            shoppers += [await _sign_in(door, email) for email in other_emails]
            measured.latencies_ms.clear()
            measured.counts.clear()
            visits = plan(
                seed=options.seed,
                users=len(shoppers),
                products=options.products,
                orders_per_s=options.orders_per_s,
                seconds=options.seconds,
                mix=Mix(),
            )
            hooks.phase(_announced(shop, options, len(shoppers), len(visits)))
            async with asyncio.TaskGroup() as group:
                ticker = group.create_task(_tick(options.seconds, hooks, clock))
                fault = group.create_task(_break_one(shop, options, clock))
                await run_load(door, shoppers, visits, clock)
                ticker.cancel()
                if not fault.done():
                    hooks.phase(f"the shoppers have left; waiting for {_target(shop)}")
    return first_s, await fault


async def _sign_in(door: FrontDoor, email: str) -> Shopper:
    return Shopper(demo_user_id(email), await door.log_in(email, DEMO_PASSWORD))


def _target(shop: Shop) -> str:
    return "monolith" if shop.monolith else "orders-worker"


def _announced(shop: Shop, options: DemoOptions, shoppers: int, visits: int) -> str:
    plan = f"{shoppers} shoppers make {visits} visits in {options.seconds:.0f} s"
    return f"{plan}; halfway {_target(shop)} gets a SIGKILL" if options.fault else plan


async def _break_one(shop: Shop, options: DemoOptions, clock: Clock) -> Fault | None:
    if not options.fault:
        return None
    return await kill_and_wait(shop.runtime, _target(shop), options.seconds / 2, clock)


async def _tick(seconds: float, hooks: Hooks, clock: Clock) -> None:
    start_s = clock.monotonic_s()
    while (gone_s := clock.monotonic_s() - start_s) < seconds:
        hooks.load(gone_s)
        await asyncio.sleep(_LOOK_EVERY_S)


async def _settle(shop: Shop, settings: TruthSettings, patience_s: float, clock: Clock) -> Verdict:
    """Reconcile once nothing is open any more; again while consumers catch up; then for good."""
    give_up_s = clock.monotonic_s() + patience_s
    while clock.monotonic_s() < give_up_s:
        if await asyncio.to_thread(open_work, shop.addresses) == 0:
            verdict = await _reconcile(settings)
            if verdict.books.balanced:
                return verdict
        await asyncio.sleep(_LOOK_EVERY_S)
    return await _reconcile(settings)


async def _reconcile(settings: TruthSettings) -> Verdict:
    world = await collect(settings)
    document = judge(world).as_json()
    violations: list[dict[str, Any]] = document["violations"]
    return Verdict(
        Books(document["balanced"], document["checked"], violations),
        duplicates=sum(violation["rule"] in _TWICE for violation in violations),
        stuck=sum(violation["rule"] == "order_ended" for violation in violations),
        events_per_topic=dict(sorted(Counter(record.topic for record in world.topic).items())),
    )


def _memory(runtime: Runtime) -> dict[str, Any]:
    by_process = {
        status.name: round((status.pss_bytes or 0) / MIB, 1) for status in runtime.status()
    }
    return {"total": round(sum(by_process.values())), "by_process": by_process}


def _report(
    shop: Shop,
    options: DemoOptions,
    measured: Measurements,
    verdict: Verdict,
    first_s: float,
    fault: Fault | None,
    memory: dict[str, Any],
) -> Report:
    figures = read_figures(shop.addresses)
    answers = measured.matching("checkout.")
    cache = measured.matching("cache.")
    looked = sum(cache.values())
    return Report(
        first_order_s=first_s,
        orders=figures.orders,
        books=verdict.books,
        money=figures.money,
        stock=figures.stock,
        duplicates=verdict.duplicates,
        stuck=verdict.stuck,
        stale_own_reads=measured.counts["stale_own_read"],
        latency_ms=measured.summary_ms("checkout"),
        browse_ms=measured.summary_ms("browse"),
        orders_per_s=round(answers.get("202", 0) / options.seconds, 1),
        cache_hit_ratio=round(cache.get("hit", 0) / looked, 3) if looked else 0.0,
        rows_per_shard=figures.rows_per_shard,
        reads_per_replica=measured.matching("reads."),
        events_per_topic=verdict.events_per_topic,
        answers=answers,
        seed=options.seed,
        memory_mib=memory,
        fault=fault,
        machine=_machine(),
    )


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // MIB,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _write_report(folder: Path, report: Report) -> None:
    (folder / "report.json").write_text(
        json.dumps(report.document(), indent=1) + "\n", encoding="utf-8"
    )
