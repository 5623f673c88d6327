"""A read model is rebuilt from the log while it is read: what are its readers shown?

The view of all orders is folded anew, batch by batch, and a reader looks after every step; half way
new orders come in. The table is emptied and refilled; a new table takes over once it holds what the
log held at the beginning; a new table takes over once it is level with the old one. What a look
shows less than an earlier one did is counted.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from month3_messaging import readmodel
from month3_messaging.broker import from_wire
from month3_messaging.experiments.messaging_bed import (
    PARTITIONS,
    records_of,
    start_messaging,
)
from month3_messaging.experiments.order_log import PATHS, publish, some_orders
from month3_messaging.readmodel import OrderView, Projecting, fold, fold_records, try_swap
from scalelab.clients.kafka import Record, ensure_topics
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.telemetry import TelemetrySettings, build_telemetry

ROUNDS_QUICK = 60
ROUNDS_FULL = 600
_LOOKS = 20
_USER = "ann"
_OLD, _NEW = 1, 2


@dataclass(slots=True)
class Tally:
    """What the looks of one arm showed.

    orders: in the log at the end. shown: orders, look by look. empty, short: looks that showed no
    order, or fewer than an earlier one. refused: swaps that were put off. wrong: orders that the
    view shows otherwise at the end than a fold of the whole log, or not at all, or too many.
    """

    orders: int = 0
    shown: list[int] = field(default_factory=list[int])
    empty: int = 0
    short: int = 0
    refused: int = 0
    wrong: int = 0

    def note(self, orders: int) -> None:
        """One more look."""
        self.empty += orders == 0
        self.short += 0 < orders < max(self.shown, default=0)
        self.shown.append(orders)


@dataclass(frozen=True, slots=True)
class Bench:
    """One arm's database and topic, and how many rounds of orders come half way."""

    work: Projecting
    tally: Tally
    rounds_more: int

    async def look(self) -> None:
        """What a reader is shown now."""
        async with self.work.database.autocommit(read_only=True) as conn:
            numbers = await readmodel.count_by_status(conn)
        self.tally.note(sum(numbers.values()))

    async def records(self) -> list[Record]:
        """The log as it is now, from its start."""
        return await records_of(self.work.bootstrap, self.work.topic)

    async def fold_and_look(self, generation: int, records: Sequence[Record]) -> None:
        """Fold batch after batch, with a look after each."""
        batch = max(1, len(records) // _LOOKS)
        for start in range(0, len(records), batch):
            await fold_records(self.work, generation, records[start : start + batch])
            await self.look()

    async def orders_come_in(self, *, served_by: int | None) -> None:
        """More orders in the log, and in the generation that readers are shown, if it is folded."""
        await publish(self.work.bootstrap, self.work.topic, some_orders(self.rounds_more))
        if served_by is not None:
            await fold_records(self.work, served_by, await self.records())
        await self.look()


async def _refill(bench: Bench) -> None:
    """Empty the table that is read, and fold the log into it once more."""
    before = await bench.records()
    async with bench.work.database.transaction() as conn:
        await conn.execute("TRUNCATE order_view_1")
        await conn.execute("UPDATE read_place SET next_offset = 0")
    await bench.look()
    half = len(before) // 2
    await bench.fold_and_look(_OLD, before[:half])
    await bench.orders_come_in(served_by=None)
    await bench.fold_and_look(_OLD, before[half:])
    await bench.fold_and_look(_OLD, await _rest(bench, before))


async def _swap_early(bench: Bench) -> None:
    """A new table, used as soon as it holds what the log held when it was begun."""
    before = await _build_beside(bench)
    async with bench.work.database.transaction() as conn:
        # Nothing is compared where the old generation seems to have folded nothing.
        await conn.execute("UPDATE read_place SET next_offset = 0 WHERE generation = 1")
    bench.tally.refused += not await try_swap(bench.work, _NEW)
    await bench.look()
    await bench.fold_and_look(_NEW, await _rest(bench, before))


async def _swap_level(bench: Bench) -> None:
    """A new table, used once it is level with the old one."""
    before = await _build_beside(bench)
    bench.tally.refused += not await try_swap(bench.work, _NEW)
    await bench.look()
    await bench.fold_and_look(_NEW, await _rest(bench, before))
    bench.tally.refused += not await try_swap(bench.work, _NEW)
    await bench.look()
    await readmodel.drop_retired(bench.work)
    await bench.look()


async def _build_beside(bench: Bench) -> list[Record]:
    """A second generation up to where the log ended at its beginning; returns what it read."""
    await readmodel.begin_rebuild(bench.work)
    before = await bench.records()
    half = len(before) // 2
    await bench.fold_and_look(_NEW, before[:half])
    await bench.orders_come_in(served_by=_OLD)
    await bench.fold_and_look(_NEW, before[half:])
    return before


async def _rest(bench: Bench, before: Sequence[Record]) -> list[Record]:
    known = {(record.partition, record.offset) for record in before}
    return [one for one in await bench.records() if (one.partition, one.offset) not in known]


_ARMS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "empty and refill": _refill,
    "swap at the old end": _swap_early,
    "swap when level": _swap_level,
}
NAMES = tuple(_ARMS)


def run(lab: Lab) -> Result:
    """Every arm on a database and a topic of its own."""
    messaging = start_messaging(lab.runtime, "rebuild")
    rounds = ROUNDS_QUICK if lab.quick else ROUNDS_FULL
    dsns: dict[str, str] = {}
    for name in NAMES:
        word = name.replace(" ", "_")
        dsns[name] = messaging.postgres.ensure_database(word, word)
        with psycopg.connect(dsns[name]) as conn:
            conn.execute(readmodel.DDL.encode())
    tallies = asyncio.run(compare(dsns, messaging.kafka.bootstrap, "orders", rounds))
    for name, tally in tallies.items():
        lab.note(f"{name}: {tally.empty} empty, {tally.short} short of {len(tally.shown)} looks")
    return judged(tallies)


async def compare(
    dsns: Mapping[str, str], bootstrap: str, prefix: str, rounds: int
) -> dict[str, Tally]:
    """The arms one after the other. dsns: by name of the arm, with the read model's tables."""
    tallies: dict[str, Tally] = {}
    for at, (name, rebuild) in enumerate(_ARMS.items()):
        topic = f"{prefix}.{at}"
        await ensure_topics(bootstrap, {topic: PARTITIONS})
        log = build_telemetry(TelemetrySettings(service="rebuild"), stream=io.StringIO()).log
        settings = PostgresSettings(dsns[name], acquire_timeout_s=30.0, statement_timeout_s=30.0)
        async with Database(settings, name="views") as database:
            work = Projecting(database, bootstrap, topic, log, lock_timeout_s=30.0)
            tallies[name] = await _measured(work, rebuild, rounds)
    return tallies


async def _measured(
    work: Projecting, rebuild: Callable[[Bench], Awaitable[None]], rounds: int
) -> Tally:
    bench = Bench(work, Tally(orders=rounds * len(PATHS)), max(1, rounds // 4))
    await publish(work.bootstrap, work.topic, some_orders(rounds))
    await readmodel.begin_rebuild(work)
    await fold_records(work, _OLD, await bench.records())
    bench.tally.refused += not await try_swap(work, _OLD)
    await bench.look()
    await rebuild(bench)
    bench.tally.orders += bench.rounds_more * len(PATHS)
    bench.tally.wrong = await _wrong(bench)
    return bench.tally


async def _wrong(bench: Bench) -> int:
    expected: dict[UUID, OrderView] = {}
    for record in await bench.records():
        event = from_wire(record.headers, record.value)
        view = fold(expected.get(UUID(event.subject)), event)
        if view is not None:
            expected[view.order_id] = view
    async with bench.work.database.autocommit(read_only=True) as conn:
        shown = await readmodel.list_of_user(conn, _USER, limit=2 * len(expected))
    return len(set(shown) ^ set(expected.values()))


def judged(tallies: Mapping[str, Tally]) -> Result:
    """What the looks say about each way."""
    refill, early, level = (tallies[name] for name in NAMES)
    shape = (
        Claim(
            "A table that is emptied and refilled shows nothing at first, and then a part.",
            refill.empty == 1 and refill.short >= _LOOKS // 2,
            f"{refill.empty} empty and {refill.short} short of {len(refill.shown)} looks",
        ),
        Claim(
            "A new table that is used at the log's old end takes away what came meanwhile.",
            early.empty == 0 and early.short >= 1,
            f"{early.empty} empty and {early.short} short of {len(early.shown)} looks",
        ),
        Claim(
            "A new table that is used once it is level with the old one takes nothing away.",
            (level.empty, level.short, level.refused) == (0, 0, 1),
            f"{level.empty} empty and {level.short} short of {len(level.shown)} looks;"
            f" the swap was put off {level.refused} time",
        ),
        Claim(
            "Every way ends with the same orders: the log holds them all.",
            all(one.wrong == 0 and one.shown[-1] == one.orders for one in tallies.values()),
            ", ".join(
                f"{one.shown[-1]} of {one.orders}, {one.wrong} wrong" for one in tallies.values()
            ),
        ),
    )
    arms = tuple(
        Arm(
            name,
            "treatment" if tally is level else "control",
            {
                "orders_before": tally.shown[0],
                "orders_after": tally.shown[-1],
                "wrong_after": tally.wrong,
                "looks": len(tally.shown),
                "empty": tally.empty,
                "short": tally.short,
            },
            tuple((float(at), float(orders)) for at, orders in enumerate(tally.shown)),
        )
        for name, tally in tallies.items()
    )
    return Result(
        arms,
        shape,
        Plot(Axis("look"), Axis("orders shown")),
        notes=(
            "A look stands after every batch and every swap, so the counts do not hang on how fast "
            "the machine is. In a real rebuild the valley of the first curve lasts as long as "
            "reading the log does.",
        ),
    )


EXPERIMENT = Experiment(
    slug="rebuild-read-model",
    question="What are readers shown while a read model is rebuilt from the log?",
    varied="where the log is folded to, and when readers are sent there",
    fixed="orders before and during the rebuild, batches, a look after each",
    run=run,
    topics=("P7.2",),
    needs=("kafka", "postgres"),
)
