"""A transfer over two shards: two commits, two-phase commit, or a saga. Who loses what, when?

Every way moves money from an account on one real server to one on another. An auditor adds both
up at every step on the way, the process that transfers is killed with -9 at every step, and the
target's server is stopped. What is counted is money that is missing then, after recovery, and
transfers that were accepted while a shard was away. Times are shown and claimed by nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import psycopg

from month2_databases.experiments import transfers
from month2_databases.experiments.transfer_process import killed_at
from month2_databases.sharding import DECISION_SCHEMA, DecisionRegister, TwoPhase
from scalelab.clients.postgres import Database, PostgresSettings
from scalelab.clock import SystemClock
from scalelab.errors import Retryable, ScalelabError
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres

STEPS = {
    "two_commits": ("taken",),
    "two_phase": ("prepared", "decided"),
    "saga": ("taken",),
}
ROLES = {"two_commits": "control", "two_phase": "treatment", "saga": "treatment"}
AMOUNT = 10
OPENING = 1_000_000
ACCOUNT = 1
_WAITS_S = 0.3
"""How long a transfer waits for a connection to a server that is stopped."""
_PATIENT_S = 20.0


@dataclass(slots=True)
class Seen:
    """Counts of one way. The first two while nothing fails, then after kills, then with a shard
    away. missing: money, in transfers' worth. locked: updates refused while rows were in doubt."""

    audits: int = 0
    audits_off: int = 0
    took_ms: list[float] = field(default_factory=list[float])
    kills: int = 0
    missing_after_kills: int = 0
    missing_after_recovery: int = 0
    locked: int = 0
    tried_away: int = 0
    accepted_away: int = 0
    missing_at_end: int = 0


class Bank:
    """Two servers and their databases, opened from here."""

    def __init__(self, lab: Lab) -> None:
        settings = {"max_prepared_transactions": "10"}
        self.lab = lab
        self.servers = [Postgres(f"bank-{end}", settings=settings) for end in ("source", "target")]
        lab.runtime.start(*self.servers)
        source, target = self.servers
        self.dsns = {
            "source": source.ensure_database("bank", "bank"),
            "target": target.ensure_database("bank", "bank"),
            "register": source.ensure_database("decisions", "bank"),
        }
        for end in ("source", "target"):
            with psycopg.connect(self.dsns[end], autocommit=True) as conn:
                conn.execute(transfers.SCHEMA)
                conn.execute("INSERT INTO account VALUES (%s, %s)", (ACCOUNT, OPENING))
        with psycopg.connect(self.dsns["register"], autocommit=True) as conn:
            conn.execute(DECISION_SCHEMA)

    @asynccontextmanager
    async def opened(self, *, away: str = "") -> AsyncGenerator[dict[str, Database]]:
        """Pools to all three, for this process. away: the one that is known not to answer."""
        found: dict[str, Database] = {}
        for name, dsn in self.dsns.items():
            wait_s = _WAITS_S if name == away else _PATIENT_S
            settings = PostgresSettings(dsn, acquire_timeout_s=wait_s, connect_timeout_s=_PATIENT_S)
            found[name] = Database(settings, name=name)
        async with found["source"], found["target"], found["register"]:
            yield found

    def missing(self) -> int:
        """Money that is on neither account, in transfers' worth. Blocking."""
        total = 0
        for end in ("source", "target"):
            with psycopg.connect(self.dsns[end]) as conn:
                row = conn.execute("SELECT sum(balance)::bigint FROM account").fetchone()
                total += int(row[0]) if row else 0
        return (2 * OPENING - total) // AMOUNT

    def settle(self) -> None:
        """Begin anew. Blocking."""
        for end in ("source", "target"):
            with psycopg.connect(self.dsns[end], autocommit=True) as conn:
                conn.execute("UPDATE account SET balance = %s", (OPENING,))
                conn.execute("TRUNCATE outbox, inbox")

    def is_locked(self) -> bool:
        """Whether the target's account cannot be changed for now. Blocking."""
        with psycopg.connect(self.dsns["target"], autocommit=True) as conn:
            conn.execute("SET lock_timeout = '100ms'")
            try:
                conn.execute("UPDATE account SET balance = balance WHERE id = %s", (ACCOUNT,))
            except psycopg.errors.LockNotAvailable:
                return True
        return False


Transfer = Callable[[transfers.Checkpoint], Awaitable[None]]


def run(lab: Lab) -> Result:
    """One way after the other on the same two servers."""
    bank = Bank(lab)
    seen: dict[str, Seen] = {}
    for way in STEPS:
        bank.settle()
        seen[way] = asyncio.run(_measure(bank, way, quick=lab.quick))
        lab.note(f"{way}: {seen[way].kills} kills, {seen[way].audits} audits done")
    return _judge(seen)


async def _measure(bank: Bank, way: str, *, quick: bool) -> Seen:
    seen = Seen()
    await _undisturbed(bank, way, seen, transfers_count=20 if quick else 200)
    await _killed(bank, way, seen, rounds=2 if quick else 10)
    await _shard_away(bank, way, seen, tries=3 if quick else 10)
    return seen


async def _undisturbed(bank: Bank, way: str, seen: Seen, *, transfers_count: int) -> None:
    """An auditor adds up at every step; then the same without one, timed."""

    async def audit(_step: str) -> None:
        seen.audits += 1
        seen.audits_off += await asyncio.to_thread(bank.missing) != 0

    async def nobody(_step: str) -> None:
        return

    async with bank.opened() as databases:
        transfer = _transfer(way, databases)
        for _ in range(5):
            await transfer(audit)
        for _ in range(transfers_count):
            begun_s = time.perf_counter()
            await transfer(nobody)
            seen.took_ms.append((time.perf_counter() - begun_s) * 1e3)


async def _killed(bank: Bank, way: str, seen: Seen, *, rounds: int) -> None:
    """A process dies at each step; then everybody recovers who can."""
    told = {**bank.dsns, "account": ACCOUNT, "amount": AMOUNT}
    for _ in range(rounds):
        for step in STEPS[way]:
            await killed_at(step, way, told)
            seen.kills += 1
            seen.locked += await asyncio.to_thread(bank.is_locked)
            seen.missing_after_kills += await asyncio.to_thread(bank.missing) != 0
            async with bank.opened() as databases:
                await _recover(way, databases)
            if way == "two_commits":
                continue
            seen.missing_after_recovery += await asyncio.to_thread(bank.missing)
    if way == "two_commits":
        seen.missing_after_recovery = await asyncio.to_thread(bank.missing)


async def _shard_away(bank: Bank, way: str, seen: Seen, *, tries: int) -> None:
    """The target is stopped, transfers are tried, it comes back."""
    await asyncio.to_thread(bank.settle)
    await asyncio.to_thread(bank.lab.runtime.stop, "bank-target")
    try:
        async with bank.opened(away="target") as databases:
            for _ in range(tries):
                seen.tried_away += 1
                seen.accepted_away += await _accepted(way, databases)
    finally:
        await asyncio.to_thread(bank.lab.runtime.restart, "bank-target")
    async with bank.opened() as databases:
        await _recover(way, databases)
    seen.missing_at_end = await asyncio.to_thread(bank.missing)


async def _accepted(way: str, databases: dict[str, Database]) -> bool:
    """Whether a client would be told yes. A saga says yes when the first step has committed."""

    async def nobody(_step: str) -> None:
        return

    try:
        if way == "saga":
            await transfers.accept(databases["source"], ACCOUNT, AMOUNT)
        else:
            await _transfer(way, databases)(nobody)
    except ScalelabError as error:
        if not isinstance(error, Retryable):
            raise
        return False
    return True


async def _recover(way: str, databases: dict[str, Database]) -> None:
    """What each way has for it. Two commits have nothing."""
    if way == "saga":
        await transfers.relay(databases["source"], databases["target"])
    elif way == "two_phase":
        shards = {"source": databases["source"], "target": databases["target"]}
        register = DecisionRegister(databases["register"])
        await TwoPhase(shards, register, SystemClock()).recover(older_than_s=0.0)


def _transfer(way: str, databases: dict[str, Database]) -> Transfer:
    source, target = databases["source"], databases["target"]

    async def once(checkpoint: transfers.Checkpoint) -> None:
        match way:
            case "two_commits":
                await transfers.two_commits(source, target, ACCOUNT, AMOUNT, checkpoint)
            case "two_phase":
                register = databases["register"]
                await transfers.two_phase(source, target, register, ACCOUNT, AMOUNT, checkpoint)
            case _:
                await transfers.saga(source, target, ACCOUNT, AMOUNT, checkpoint)

    return once


def _judge(seen: dict[str, Seen]) -> Result:
    bare, acid, base = seen["two_commits"], seen["two_phase"], seen["saga"]
    shape = (
        Claim(
            "Between its steps a transfer of two commits, and a saga, show a wrong total every "
            "time; two-phase commit shows the old total until it tells the shards.",
            bare.audits_off == bare.audits
            and base.audits_off == base.audits
            and acid.audits_off == 0,
            f"wrong: {bare.audits_off} of {bare.audits}, {acid.audits_off} of {acid.audits}, "
            f"{base.audits_off} of {base.audits} audits",
        ),
        Claim(
            "Every kill between two commits loses the amount for ever; after recovery two-phase "
            "commit and the saga miss nothing.",
            bare.missing_after_recovery == bare.kills
            and (acid.missing_after_recovery, base.missing_after_recovery) == (0, 0),
            f"{bare.missing_after_recovery} of {bare.kills} lost; "
            f"{acid.missing_after_recovery} of {acid.kills}; "
            f"{base.missing_after_recovery} of {base.kills}",
        ),
        Claim(
            "Every killed coordinator leaves rows locked until recovery; the others leave none.",
            acid.locked == acid.kills and (bare.locked, base.locked) == (0, 0),
            f"{acid.locked} of {acid.kills}; {bare.locked}; {base.locked}",
        ),
        Claim(
            "With the target's shard away two-phase commit accepts no transfer, the saga all.",
            acid.accepted_away == 0 and base.accepted_away == base.tried_away,
            f"{acid.accepted_away} and {base.accepted_away} of {base.tried_away}",
        ),
        Claim(
            "Once it is back, nothing of these two is missing; of the refused two commits, every "
            "first half is gone.",
            (acid.missing_at_end, base.missing_at_end) == (0, 0)
            and bare.missing_at_end == bare.tried_away,
            f"{acid.missing_at_end}, {base.missing_at_end}; {bare.missing_at_end} "
            f"of {bare.tried_away}",
        ),
    )
    arms = tuple(_arm(place, way, one) for place, (way, one) in enumerate(seen.items()))
    plot = Plot(Axis("way"), Axis("accepted while the target's shard is away (%)"), kind="bars")
    notes = (
        "Money in a saga's outbox is nowhere on the accounts: a total must add what is on its way.",
        "Two-phase commit is atomic, not one snapshot: while it tells the shards, a reader of both "
        "may see one told and the other not.",
        "The servers sync to disk as usual; the median is of one caller.",
    )
    return Result(arms, shape, plot, notes)


def _arm(place: int, way: str, one: Seen) -> Arm:
    accepted_pct = 100.0 * one.accepted_away / one.tried_away
    figures = {
        "median_ms": round(median(one.took_ms), 1),
        "audits_wrong": f"{one.audits_off} of {one.audits}",
        "lost_by_kills": f"{one.missing_after_recovery} of {one.kills}",
        "locked_after_kills": f"{one.locked} of {one.kills}",
        "accepted_away": f"{one.accepted_away} of {one.tried_away}",
        "lost_by_outage": one.missing_at_end,
    }
    role = "control" if ROLES[way] == "control" else "treatment"
    return Arm(way.replace("_", " "), role, figures, ((float(place), accepted_pct),))


EXPERIMENT = Experiment(
    slug="acid-vs-base",
    question="A transfer over two shards: who loses money, who blocks, and who says no?",
    varied="the way: two commits, two-phase commit, a saga with outbox and inbox",
    fixed="two servers, the accounts, the steps at which a process is killed",
    run=run,
    topics=("A16", "A17"),
    needs=("postgres",),
)
