"""What do the patterns for much reading and much writing save, and what do they cost?

Reading: one question is asked of the rows, and of a materialised view of the answer; pages are
counted, and the rows that the view does not know yet. Writing: the same rows one by one, and in
batches, with bad rows among them; transactions and bytes of log are counted. One row that many
change at once: by hope, by version, by lock, by transactions that are run again, and by appending;
counted are tries and lost changes.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection

from month2_databases.experiments.contended_row import Changed, change_at_once
from month2_databases.indexes import explain
from month2_databases.patterns import JOB_TABLE, BatchedWrites, MaterializedView, claim
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.errors import Conflict
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

CALLERS = (1, 2, 4, 8)
"""Who change one row at once."""
BATCH = 64
WORKERS = 4
_LINES, _SKUS, _LATE = 20_000, 50, 7
_SETTINGS = {"fsync": "off", "autovacuum": "off", "checkpoint_timeout": "1h"}
_QUESTION: LiteralString = "SELECT sku, sum(quantity)::int AS sold FROM line GROUP BY sku"


@dataclass(frozen=True, slots=True)
class Reading:
    """pages: of one question. missing: what the answer lacks of what was sold."""

    pages: int
    missing: int


@dataclass(frozen=True, slots=True)
class Writing:
    """transactions: begun by the writer. log_bytes: of all rows. stored, refused: rows."""

    transactions: int
    log_bytes: int
    stored: int
    refused: int


@dataclass(frozen=True, slots=True)
class Seen:
    """By arm; changed: by arm and callers. held: jobs held at once by WORKERS, by arm."""

    reading: Mapping[str, Reading]
    writing: Mapping[str, Writing]
    changed: Mapping[str, Mapping[int, Changed]]
    held: Mapping[str, int]


def run(lab: Lab) -> Result:
    """All on one server, one after the other."""
    rows = 512 if lab.quick else 8_192
    server = Postgres("patterns", settings=_SETTINGS)
    lab.runtime.start(server)
    dsn = server.ensure_database("patterns", "learner")
    return judge(asyncio.run(measure(lab, dsn, rows)), rows)


async def measure(lab: Lab, dsn: str, rows: int) -> Seen:
    """Every arm, in a database that is emptied first."""
    settings = PostgresSettings(
        dsn,
        pool_max=max(CALLERS),
        acquire_timeout_s=60.0,
        connect_timeout_s=60.0,
        statement_timeout_s=60.0,
        transaction_timeout_s=90.0,
    )
    async with (
        Database(settings, name="patterns") as database,
        await AsyncConnection.connect(dsn, autocommit=True) as conn,
    ):
        await conn.execute("DROP OWNED BY CURRENT_USER")
        await conn.execute("GRANT ALL ON SCHEMA public TO CURRENT_USER")
        reading = await _read_both(database, conn)
        writing = {
            "one by one": await _write_rows(database, conn, rows, max_batch=1),
            "in batches": await _write_rows(database, conn, rows, max_batch=BATCH),
        }
        changed = await change_at_once(database, conn, CALLERS, lab.random())
        for name, found in changed.items():
            lab.note(f"{name}: {found}")
        return Seen(reading, writing, changed, await _hold_jobs(dsn, conn))


async def _read_both(database: Database, conn: AsyncConnection) -> dict[str, Reading]:
    await conn.execute("CREATE TABLE line (sku text NOT NULL, quantity int NOT NULL)")
    await conn.execute(
        "INSERT INTO line SELECT 'sku-' || n %% %s, 1 FROM generate_series(1, %s) AS n",
        (_SKUS, _LINES),
    )
    await conn.execute("VACUUM ANALYZE line")
    view = MaterializedView(database, "best")
    await view.define(_QUESTION, key=["sku"])
    await conn.execute("INSERT INTO line SELECT 'sku-1', 1 FROM generate_series(1, %s)", (_LATE,))
    found = {"rows": await _reading(conn, _QUESTION), "view": await _reading(conn, "TABLE best")}
    await view.refresh()
    found["view, refreshed"] = await _reading(conn, "TABLE best")
    return found


async def _reading(conn: AsyncConnection, question: LiteralString) -> Reading:
    await explain(conn, question, analyze=True)  # the first look may mark rows as committed
    pages = (await explain(conn, question, analyze=True)).pages_read
    cursor = await conn.execute(question)
    sold = sum(row[1] for row in await cursor.fetchall())
    return Reading(pages, _LINES + _LATE - sold)


async def _write_rows(
    database: Database, conn: AsyncConnection, rows: int, *, max_batch: int
) -> Writing:
    """All appended in one turn of the loop; one in two hundred breaks a rule."""
    await conn.execute("DROP TABLE IF EXISTS event")
    await conn.execute("CREATE TABLE event (id int PRIMARY KEY, amount int CHECK (amount >= 0))")
    begun = await _log_end(conn)
    refused = 0

    async def append(number: int) -> None:
        nonlocal refused
        try:
            await writes.append(number, -1 if number % 200 == 100 else number)
        except Conflict:
            refused += 1

    async with BatchedWrites(
        database, "event", ("id", "amount"), max_batch=max_batch, max_batches=1, max_pending=rows
    ) as writes:
        await asyncio.gather(*map(append, range(rows)))
    logged = await _log_end(conn) - begun
    cursor = await conn.execute("SELECT count(*)::int FROM event")
    (stored,) = await cursor.fetchone() or (0,)
    return Writing(writes.transactions, logged, stored, refused)


async def _log_end(conn: AsyncConnection) -> int:
    cursor = await conn.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    (log,) = await cursor.fetchone() or (0,)
    return log


async def _hold_jobs(dsn: str, conn: AsyncConnection) -> dict[str, int]:
    """How many of WORKERS hold a job at once, while none of them ends."""
    await conn.execute(JOB_TABLE)
    await conn.execute(
        "INSERT INTO job (payload) SELECT 'x' FROM generate_series(1, %s)", (WORKERS * 2,)
    )
    held: dict[str, int] = {}
    for name, wait in (("FOR UPDATE", _wait_for_the_first), ("SKIP LOCKED", _take_the_next)):
        async with AsyncExitStack() as stack:
            workers = [
                await stack.enter_async_context(await AsyncConnection.connect(dsn))
                for _ in range(WORKERS)
            ]
            held[name] = sum([await wait(worker) for worker in workers])
    return held


async def _wait_for_the_first(worker: AsyncConnection) -> bool:
    await worker.execute("SET LOCAL lock_timeout = '100ms'")
    try:
        await worker.execute("SELECT id FROM job WHERE NOT is_done ORDER BY id LIMIT 1 FOR UPDATE")
    except psycopg.errors.LockNotAvailable:
        return False
    return True


async def _take_the_next(worker: AsyncConnection) -> bool:
    return len(await claim(worker)) == 1


def judge(seen: Seen, rows: int) -> Result:
    """The arms, and what is claimed of them."""
    return Result(
        arms=_arms(seen),
        shape=(
            *_claims_of_reading(seen.reading),
            *_claims_of_writing(seen.writing, rows),
            *_claims_of_changing(seen.changed),
            _claim_of_jobs(seen.held),
        ),
        plot=Plot(Axis("callers who change one row at once"), Axis("tries for one change")),
        notes=(
            f"{_LINES:,} lines of {_SKUS} things; {rows} events, one in 200 of them refused.",
            "By version all callers read before anyone writes, each time: the worst case. Those who"
            " run again are not in step, so their tries differ from run to run.",
        ),
    )


def _arms(seen: Seen) -> tuple[Arm, ...]:
    arms = [
        Arm(
            f"asked of the {name}",
            "control" if name == "rows" else "treatment",
            {"pages": one.pages, "missing": one.missing},
        )
        for name, one in seen.reading.items()
    ]
    arms += [
        Arm(
            f"written {name}",
            "control" if name == "one by one" else "treatment",
            {
                "transactions": one.transactions,
                "log_bytes": one.log_bytes,
                "stored": one.stored,
                "refused": one.refused,
            },
        )
        for name, one in seen.writing.items()
    ]
    most = CALLERS[-1]
    arms += [
        Arm(
            name,
            "control" if name == "read, then write" else "treatment",
            {f"tries_of_{most}": found[most].tries, f"lost_of_{most}": found[most].lost},
            tuple((float(n), found[n].tries / n) for n in CALLERS),
        )
        for name, found in seen.changed.items()
    ]
    line = tuple((float(n), (n + 1) / 2) for n in CALLERS)
    arms.append(Arm("theory by version, (n + 1) / 2", "theory", {}, line))
    return tuple(arms)


def _claims_of_reading(reading: Mapping[str, Reading]) -> tuple[Claim, Claim]:
    rows, view, fresh = reading.values()
    return (
        Claim(
            "The view answers from less than a tenth of the pages.",
            view.pages * 10 < rows.pages,
            f"{view.pages} pages, {rows.pages} of the rows",
        ),
        Claim(
            "It lacks exactly what was written after its refresh, and the next refresh brings it.",
            (rows.missing, view.missing, fresh.missing) == (0, _LATE, 0),
            f"{view.missing} missing of {_LATE} late ones, {fresh.missing} after the refresh",
        ),
    )


def _claims_of_writing(writing: Mapping[str, Writing], rows: int) -> tuple[Claim, Claim, Claim]:
    alone, together = writing.values()
    bad = len(range(100, rows, 200))
    levels = BATCH.bit_length() - 1
    expected = math.ceil(rows / BATCH) + 2 * levels * bad
    return (
        Claim(
            "One bad row refuses itself alone, in a batch as by itself.",
            (alone.stored, alone.refused)
            == (together.stored, together.refused)
            == (rows - bad, bad),
            f"{together.stored} stored and {together.refused} refused of {rows}",
        ),
        Claim(
            "Batches of n take a transaction each, and 2 log2 n more for each bad row.",
            alone.transactions == rows and together.transactions == expected,
            f"{together.transactions} for {rows} rows, theory {expected}; one by one"
            f" {alone.transactions}",
        ),
        Claim(
            "They write less log for the same rows.",
            together.log_bytes < 0.9 * alone.log_bytes,
            f"{together.log_bytes:,} bytes, one by one {alone.log_bytes:,}",
        ),
    )


def _claims_of_changing(changed: Mapping[str, Mapping[int, Changed]]) -> tuple[Claim, ...]:
    hoped, versions = changed["read, then write"], changed["by version"]
    safe = {name: found for name, found in changed.items() if name != "read, then write"}
    lost = sum(one.lost for found in safe.values() for one in found.values())
    waiting = ("by row lock", "appended")
    reruns = [changed["run again on 40001"][n].tries - n for n in CALLERS]
    return (
        Claim(
            "Of n who read and then write, n - 1 changes are lost; every other way loses none.",
            all(hoped[n].lost == n - 1 for n in CALLERS) and lost == 0,
            f"{[hoped[n].lost for n in CALLERS]} lost; {lost} in {len(safe)} other ways",
        ),
        Claim(
            "By version, in step, n changes take n (n + 1) / 2 tries.",
            all(versions[n].tries == n * (n + 1) // 2 for n in CALLERS),
            f"{[versions[n].tries for n in CALLERS]} for {list(CALLERS)}",
        ),
        Claim(
            "Who locks or appends tries once.",
            all(changed[name][n].tries == n for name in waiting for n in CALLERS),
            f"{[changed[waiting[0]][n].tries for n in CALLERS]} for {list(CALLERS)}",
        ),
        Claim(
            "Alone no transaction is run again; with others some are.",
            reruns[0] == 0 and reruns[-1] > 0,
            f"{reruns} reruns for {list(CALLERS)}",
        ),
    )


def _claim_of_jobs(held: Mapping[str, int]) -> Claim:
    return Claim(
        "Who skips locked rows works beside the others; who waits for the first row does not.",
        (held["FOR UPDATE"], held["SKIP LOCKED"]) == (1, WORKERS),
        f"{held['FOR UPDATE']} and {held['SKIP LOCKED']} of {WORKERS} hold a job at once",
    )


EXPERIMENT = Experiment(
    slug="read-write-patterns",
    question="What do the patterns for much reading and much writing save, and what do they cost?",
    varied="how a question is answered, rows are written, and a row that many want is changed",
    fixed="the rows, the callers, one server; pages and log as the server counts them",
    run=run,
    topics=("D5",),
    needs=("postgres",),
)
