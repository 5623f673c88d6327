"""Projecting: records of the log into generations, from Kafka into PostgreSQL.

Theory of operation
    A projector reads the log as a consumer group that never commits: the offsets stand beside the
    views and move in the same transaction. Whatever the broker delivers again is dropped there, be
    it after a crash, a rebalance or by a member that was frozen and woke up. Each generation has a
    group of its own, so live and building generations are folded side by side and any number of
    processes may share the work; after each batch the builder asks whether it may go live.

Promises (with generation.py and generations_postgres.py)
    P1  A process killed anywhere is replaced by the next one, which goes on where it had committed.
    P2  Views and offsets change together; each record is folded once into each generation.
    P3  A generation that cannot go on (a gap in the log, say) stands still and is said in the log;
        readers keep what they have, other generations go on.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from month3_messaging.broker import Event, from_wire
from month3_messaging.crash_points import CrashPoint, pass_by
from month3_messaging.readmodel import generations_postgres as generations
from month3_messaging.readmodel import views_postgres as views
from month3_messaging.readmodel.generation import State, may_go_live, unseen
from month3_messaging.readmodel.order_view import ENTERS, fold_all, order_id_of
from scalelab.clients.kafka import Consumer, Partition, Record, open_consumer
from scalelab.clients.postgres import Database
from scalelab.errors import Conflict, CorruptData, NotFound, ScalelabError, Unavailable
from scalelab.telemetry import Log

_ASSIGNED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Projecting:
    """What projectors need, and how they pace themselves.

    topic: of the order events; it must keep everything. batch: records a transaction. poll_ms: the
    longest wait for records. look_every_s: between looks for new generations. restart_s: before a
    projector that failed tries again. lock_timeout_s: longest wait of a swap for readers.
    static_member: a name, one per process, under which a restarted one gets its partitions back at
    once; until then nobody folds them. reached: called at each crash point.
    """

    database: Database
    bootstrap: str
    topic: str
    log: Log
    batch: int = 500
    poll_ms: int = 100
    look_every_s: float = 1.0
    restart_s: float = 1.0
    lock_timeout_s: float = 1.0
    static_member: str | None = None
    reached: Callable[[str], None] = pass_by


async def begin_rebuild(work: Projecting) -> int:
    """Begin a generation over the whole log, or find the one being built; returns its number.

    Whoever runs `keep_projecting` builds it and puts it into use. Raises Conflict `log_is_trimmed`
    if the log does not hold its beginning any more: what it lost no rebuild brings back.
    """
    ends = await _log_ends(work)
    async with work.database.transaction() as conn:
        return await generations.begin(conn, ends)


async def keep_projecting(work: Projecting, *, stop: asyncio.Event | None = None) -> None:
    """Fold the log into every generation that is not over, and drop those that are.

    The first generation is begun here. Safe in several processes at once. stop: ends it between
    two batches and leaves the groups; without one it never ends.
    """
    stop = stop or asyncio.Event()
    over: dict[int, asyncio.Event] = {}
    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            try:
                wanted = await _clear_up(work)
            except ScalelabError as error:
                _report(work, "read_model_not_looked_after", error)
            else:
                for number in over.keys() - wanted:
                    over.pop(number).set()
                for number in wanted - over.keys():
                    over[number] = asyncio.Event()
                    group.create_task(_go_on(work, number, over[number]), name=f"fold {number}")
            await _pause(stop, work.look_every_s)
        for one in over.values():
            one.set()


async def project(work: Projecting, number: int, stop: asyncio.Event) -> None:
    """Fold the log into generation `number` and put it into use once that takes nothing away.

    Returns once stopped, or when a batch finds the generation over. Raises what stood in the way;
    calling it again goes on.
    """
    try:
        async with open_consumer(
            work.bootstrap,
            f"{work.topic}.readmodel.{number}",
            [work.topic],
            static_member=work.static_member,
        ) as consumer:
            await _project(work, number, consumer, stop)
    except NotFound as error:
        if error.stable_code != "generation_over":
            raise


async def fold_records(work: Projecting, number: int, records: Sequence[Record]) -> None:
    """Fold records, in order per partition, into a generation; views and offsets in one commit.

    Raises NotFound (see `generations_postgres.hold`) or CorruptData `log_has_a_gap`; nothing has
    changed then.
    """
    lanes: defaultdict[int, list[Record]] = defaultdict(list)
    for record in records:
        lanes[record.partition].append(record)
    async with work.database.transaction() as conn:
        offsets = await generations.hold(conn, number, sorted(lanes))
        for partition, lane in sorted(lanes.items()):
            new = unseen(lane, offsets[partition])
            if new:
                unreadable = await _fold_lane(conn, number, new)
                await generations.move(conn, number, partition, new[-1].offset + 1, unreadable)
        work.reached(CrashPoint.PROJECTOR_BEFORE_COMMIT)
    work.reached(CrashPoint.PROJECTOR_FOLDED)


async def try_swap(work: Projecting, number: int) -> bool:
    """Put generation `number` into use if it has caught up; whether it is in use.

    Readers that stay in the way for too long mean: not yet.
    """
    async with work.database.autocommit(read_only=True) as conn:
        found = await generations.look(conn)
    if number in found and found[number].state is State.BUILDING:
        live = next((one for one in found.values() if one.state is State.LIVE), None)
        if not may_go_live(found[number], live):
            return False
    try:
        async with work.database.transaction() as conn:
            swapped = await generations.swap(conn, number, lock_timeout_s=work.lock_timeout_s)
            work.reached(CrashPoint.PROJECTOR_BEFORE_SWAP)
    except Unavailable as error:
        if error.stable_code != "readers_in_the_way":
            raise
        _report(work, "read_model_not_swapped", error)
        return False
    work.reached(CrashPoint.PROJECTOR_SWAPPED)
    return swapped


async def drop_retired(work: Projecting) -> list[int]:
    """Drop the generations that are over; which."""
    async with work.database.transaction() as conn:
        dropped = await generations.drop_retired(conn, lock_timeout_s=work.lock_timeout_s)
    if dropped:
        work.reached(CrashPoint.PROJECTOR_DROPPED)
    return dropped


async def _clear_up(work: Projecting) -> frozenset[int]:
    """Drop what is over and begin what there must be; the generations that are to be folded."""
    try:
        await drop_retired(work)
    except Unavailable as error:
        if error.stable_code != "readers_in_the_way":
            raise
        _report(work, "read_model_not_dropped", error)
    while True:
        async with work.database.autocommit(read_only=True) as conn:
            found = await generations.look(conn)
        wanted = frozenset(n for n, one in found.items() if one.state is not State.RETIRED)
        if wanted:
            return wanted
        await begin_rebuild(work)


async def _go_on(work: Projecting, number: int, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await project(work, number, stop)
        except ScalelabError as error:
            _report(work, "projection_stands_still", error, generation=number)
            await _pause(stop, work.restart_s)
        else:
            return


async def _pause(stop: asyncio.Event, wait_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stop.wait()


async def _project(work: Projecting, number: int, consumer: Consumer, stop: asyncio.Event) -> None:
    placed: frozenset[Partition] = frozenset()
    is_live = False
    while not stop.is_set():
        is_live = is_live or await try_swap(work, number)
        records = await consumer.getmany(timeout_ms=work.poll_ms, max_records=work.batch)
        owned = consumer.assignment()
        new = owned - placed
        if new:
            await _seek(work, number, consumer, new)
        placed = owned
        usable = [record for record in records if (record.topic, record.partition) in owned - new]
        if usable:
            work.reached(CrashPoint.PROJECTOR_READ)
            await fold_records(work, number, usable)


async def _seek(
    work: Projecting, number: int, consumer: Consumer, partitions: Iterable[Partition]
) -> None:
    """Read these partitions on from where they are folded; records fetched before are void."""
    async with work.database.transaction() as conn:
        offsets = await generations.hold(conn, number, sorted(at for _, at in partitions))
    for partition in partitions:
        consumer.seek(partition, offsets[partition[1]])


async def _fold_lane(conn: AsyncConnection[Any], number: int, records: Sequence[Record]) -> int:
    """Fold one partition's new records; returns how many of them could not be read."""
    events, unreadable = _events(records)
    known = await views.load(conn, number, {UUID(event.subject) for event in events})
    after, odd = fold_all(known, events)
    await views.store(conn, number, after.values())
    return unreadable + odd


def _events(records: Sequence[Record]) -> tuple[list[Event], int]:
    """Events about orders, in order, and how many records cannot be read."""
    events: list[Event] = []
    unreadable = 0
    for record in records:
        try:
            event = from_wire(record.headers, record.value)
            if event.type in ENTERS:
                order_id_of(event)
                events.append(event)
        except CorruptData:
            unreadable += 1
    return events, unreadable


async def _log_ends(work: Projecting) -> dict[int, int]:
    """Where each partition ends now. Raises Conflict `log_is_trimmed`, or Unavailable."""
    async with open_consumer(
        work.bootstrap, f"{work.topic}.readmodel.ends-{uuid4()}", [work.topic]
    ) as consumer:
        try:
            async with asyncio.timeout(_ASSIGNED_WITHIN_S):
                while not consumer.assignment():
                    await consumer.getmany(timeout_ms=work.poll_ms, max_records=1)
                partitions = consumer.assignment()
                begins = await consumer.begin_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
        except TimeoutError as error:
            raise Unavailable(
                f"Kafka gave no partitions of {work.topic}", code="kafka_unavailable"
            ) from error
    if trimmed := sorted(at for (_, at), begin in begins.items() if begin):
        raise Conflict(
            f"{work.topic} lost the beginning of partitions {trimmed} to its retention",
            code="log_is_trimmed",
        )
    return {at: end for (_, at), end in ends.items()}


def _report(work: Projecting, event: str, error: ScalelabError, **more: object) -> None:
    work.log.warning(event, topic=work.topic, code=error.stable_code, error=str(error), **more)
