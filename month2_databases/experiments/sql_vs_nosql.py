"""One cart, kept by PostgreSQL twice and by a Cassandra ring: what does each do for it, and refuse?

The same callers with the same code: they check out twice at once, add at once, go on while a server
is away, and ask a question that nobody had thought of when the tables were made. PostgreSQL
keeps it in two tables, and as one JSONB document; the ring is asked in two ways, by plain quorum
writes and by compare-and-set.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import LiteralString

from month2_databases.consistency import (
    AgreedCart,
    CartStore,
    PlainCart,
    PostgresCart,
    Ring,
)
from month2_databases.consistency.cassandra_cart import TABLE
from month2_databases.experiments.ring_bed import RingBed
from month2_databases.models import HOLDING, JsonbCart
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import InvalidInput, OutcomeUnknown, Unavailable
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Postgres

CALLERS = 4
"""At once, for one cart."""
_TRIES = 10
"""Changes while a server is away."""
_POSTGRES = "carts-db"
_ON_POSTGRES: dict[str, LiteralString] = {
    "postgres": "SELECT count(DISTINCT cart) FROM cart_line WHERE sku = %s",
    "postgres, jsonb": HOLDING,
}
"""How each store there is asked for the carts that hold a thing."""
_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """twice: carts of which callers were told different orders. lost: adds that do not count.
    served: changes of _TRIES while a server was away. found: carts by what is in them, None if
    the store does not take the question. ms: of one change by one caller."""

    twice: int
    lost: int
    served: int
    found: int | None
    ms: float

    @property
    def broken(self) -> int:
        """Promises of the cart that were broken."""
        return self.twice + self.lost


def run(lab: Lab) -> Result:
    """Both servers; each loses one machine, which for PostgreSQL is all it has."""
    carts = 15 if lab.quick else 100
    seen = asyncio.run(measure(lab, carts))
    return judge(seen, carts)


async def measure(lab: Lab, carts: int) -> dict[str, Seen]:
    """The races first, then the outages."""
    bed = RingBed.of(lab.runtime)
    seen: dict[str, Seen] = {}
    async with _postgres(lab.runtime) as database, bed.client("carts", TABLE) as ring:
        stored, document = PostgresCart(database), JsonbCart(database)
        await stored.define()
        await document.define()
        plain = PlainCart(ring)
        agreed = AgreedCart(ring, random=lab.random(), sleep=asyncio.sleep)
        stores: dict[str, CartStore] = {
            "postgres": stored,
            "postgres, jsonb": document,
            "ring, plain": plain,
            "ring, agreed": agreed,
        }
        prices = await _price(stores, rounds=30 if lab.quick else 200)
        served = await _outages(lab, bed, ring, stores)
        for name, store in stores.items():
            seen[name] = Seen(
                twice=await _checked_out_twice(store, name, carts),
                lost=await _lost_adds(store, name, carts),
                served=served[name],
                found=await _ask(ring, database, name),
                ms=prices[name],
            )
            lab.note(f"{name}: {seen[name]}")
    return seen


@asynccontextmanager
async def _postgres(runtime: Runtime) -> AsyncGenerator[Database]:
    # The pool tells of every connection it cannot have, which here is what is wanted.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    server = Postgres(_POSTGRES)
    await asyncio.to_thread(runtime.start, server)
    settings = PostgresSettings(
        await asyncio.to_thread(server.ensure_database, "carts", "carts"),
        acquire_timeout_s=_WITHIN_S,
        connect_timeout_s=_WITHIN_S,
    )
    async with Database(settings, name="carts") as database:
        yield database


async def _price(stores: dict[str, CartStore], *, rounds: int) -> dict[str, float]:
    """Milliseconds of one change, the stores in turns."""
    took: dict[str, list[float]] = {name: [] for name in stores}
    for number in range(rounds):
        for name, store in stores.items():
            began_s = time.perf_counter()
            await store.set_quantity(f"price of {name}", "tea", number % 9 + 1)
            took[name].append((time.perf_counter() - began_s) * 1000)
    return {name: median(times) for name, times in took.items()}


async def _checked_out_twice(store: CartStore, name: str, carts: int) -> int:
    """Carts of which the callers were told more than one order."""
    twice = 0
    for number in range(carts):
        cart = f"{name}: checked out {number}"
        await store.set_quantity(cart, "tea", 1)
        told = await asyncio.gather(
            *(store.check_out(cart, f"order {caller}") for caller in range(CALLERS))
        )
        twice += len(set(told)) > 1
    return twice


async def _lost_adds(store: CartStore, name: str, carts: int) -> int:
    """Adds that were acknowledged and do not count."""
    lost = 0
    for number in range(carts):
        cart = f"{name}: added {number}"
        await asyncio.gather(*(store.add(cart, "tea", 1) for _ in range(CALLERS)))
        lost += CALLERS - (await store.lines(cart)).get("tea", 0)
    return lost


async def _outages(
    lab: Lab, bed: RingBed, ring: Ring, stores: dict[str, CartStore]
) -> dict[str, int]:
    """Changes that were made while one server was away, by store."""
    served: dict[str, int] = {}
    async with bed.without(ring, 3):
        for name in stores:
            if name not in _ON_POSTGRES:
                served[name] = await _served(stores[name], name)
    await asyncio.to_thread(lab.runtime.stop, _POSTGRES)
    for name in _ON_POSTGRES:
        served[name] = await _served(stores[name], name)
    await asyncio.to_thread(lab.runtime.restart, _POSTGRES)
    return served


async def _served(store: CartStore, name: str) -> int:
    tries = [
        _is_done(lambda number=number: store.set_quantity(f"{name}: away {number}", "tea", 1))
        for number in range(_TRIES)
    ]
    return sum(await asyncio.gather(*tries))


async def _is_done(change: Callable[[], Awaitable[None]]) -> bool:
    try:
        await change()
    except (Unavailable, OutcomeUnknown):
        return False
    return True


async def _ask(ring: Ring, database: Database, name: str) -> int | None:
    """How many carts hold tea: a question by what the tables are not keyed by."""
    if name in _ON_POSTGRES:
        async with database.autocommit(read_only=True) as connection:
            cursor = await connection.execute(_ON_POSTGRES[name], ("tea",))
            row = await cursor.fetchone()
            return row[0] if row else None
    try:
        return len(await ring.read("SELECT cart FROM cart WHERE sku = 'tea'"))
    except InvalidInput:
        return None


def judge(seen: dict[str, Seen], carts: int) -> Result:
    """The arms, and what is claimed of them."""
    postgres, document, plain, agreed = seen.values()
    shape = (
        Claim(
            "Plain quorum writes break the cart's promises: orders twice, adds lost.",
            plain.twice > 0 and plain.lost > 0,
            f"{plain.twice} of {carts} carts ordered twice, {plain.lost} of"
            f" {carts * CALLERS} adds lost",
        ),
        Claim(
            "Row locks, a document changed in one statement, and a compare-and-set all keep them.",
            postgres.broken == document.broken == agreed.broken == 0,
            f"{postgres.broken}, {document.broken} and {agreed.broken} broken",
        ),
        Claim(
            "With one server away the ring makes every change, PostgreSQL alone makes none.",
            (postgres.served, document.served) == (0, 0)
            and (plain.served, agreed.served) == (_TRIES, _TRIES),
            f"{postgres.served}, {document.served}, {plain.served} and {agreed.served} of {_TRIES}"
            " changes",
        ),
        Claim(
            "A question that the tables were not made for: one answers, the other refuses.",
            None not in (postgres.found, document.found) and plain.found is None,
            f"{postgres.found} carts by tables, {document.found} by documents; the ring demands a"
            " key",
        ),
        Claim(
            "Agreement costs the ring more than a plain write.",
            agreed.ms > 1.2 * plain.ms,
            f"{agreed.ms / plain.ms:.1f} times as long",
        ),
    )
    return Result(
        arms=_arms(seen),
        shape=shape,
        plot=Plot(Axis(""), Axis("broken promises of the cart"), "bars"),
        notes=(
            f"{CALLERS} callers at once for a cart; {carts} carts for each race.",
            "PostgreSQL stands alone here. With replicas and a failover it goes on, after a pause:"
            " see database-failover.",
            "Both sync to disk before they answer. A change at PostgreSQL is five statements long,"
            " of a document one.",
        ),
    )


def _arms(seen: dict[str, Seen]) -> tuple[Arm, ...]:
    return tuple(
        Arm(
            name,
            "control" if name == "postgres" else "treatment",
            {
                "carts_ordered_twice": one.twice,
                "adds_lost": one.lost,
                "changes_with_one_away": one.served,
                "carts_found_by_content": one.found,
                "change_ms": round(one.ms, 2),
            },
            ((0.0, float(one.broken)),),
        )
        for name, one in seen.items()
    )


EXPERIMENT = Experiment(
    slug="sql-vs-nosql",
    question="What does a cart gain and lose when a ring of three takes the place of PostgreSQL?",
    varied="the store of the cart, and how the ring is asked",
    fixed="callers, carts, one server away",
    run=run,
    topics=("D12", "D22", "A15"),
    needs=("postgres", "cassandra"),
)
