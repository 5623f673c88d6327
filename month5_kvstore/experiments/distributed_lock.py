"""Is a lock enough, when its holder may be stopped for longer than its lease?

A holder takes the lock, reads a number, and is stopped (SIGSTOP) before it writes. Its lease ends;
another process gets the lock and adds to the number, several times. Then the first one goes on:
its next statement is the write. Counted: its writes that were accepted, and additions that were
answered and are not in the number. Once the number believes whoever writes, once it looks at the
holder's token. On Redis, ZooKeeper and this month's store.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from random import Random

import psycopg

from month5_kvstore.experiments.lock_worker import Bed
from month5_kvstore.experiments.lock_workers import LockWorker
from month5_kvstore.locks import DDL
from month5_kvstore.stack import start_stack
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres, Redis, ZooKeeper

BETWEEN = 3
"""Additions by the other process while the first one stands still."""
ROUNDS_QUICK, ROUNDS_FULL = 3, 20
_TTL_S = 0.6


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one arm. stale: writes of the stopped holder that were accepted. lost: additions that
    were answered and are not there. in_order: whether each token was above all before it."""

    rounds: int
    answered: int
    stale: int
    lost: int
    in_order: bool


def measure(lab: Lab) -> Result:
    """Both arms on all three services."""
    rounds = ROUNDS_QUICK if lab.quick else ROUNDS_FULL
    postgres = Postgres("locked-postgres", settings={"fsync": "off", "full_page_writes": "off"})
    redis, zookeeper = Redis("lock-redis"), ZooKeeper("lock-zookeeper")
    lab.runtime.start(postgres, redis, zookeeper)
    stack = start_stack(lab.runtime, restart=False)
    hosts = ",".join(url.removeprefix("http://") for url in stack.urls.values())
    services = {
        "Redis": redis.url,
        "ZooKeeper": f"zookeeper://{zookeeper.address}",
        "the store": f"store://{hosts}",
    }
    dsn = postgres.ensure_database("locked", "locked")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(DDL.encode())
    random = lab.random()
    seen: dict[tuple[str, bool], Seen] = {}
    for service, address in services.items():
        for is_fenced in (False, True):
            lab.note(f"{service}, {'with' if is_fenced else 'without'} a fence: {rounds} rounds")
            seen[service, is_fenced] = hold(address, dsn, rounds, random, is_fenced=is_fenced)
    return judged(seen)


def hold(address: str, dsn: str, rounds: int, random: Random, *, is_fenced: bool) -> Seen:
    """So many rounds with one pair of processes on one number."""
    name = f"n{random.getrandbits(48):012x}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO fenced (name, value) VALUES (%s, 0)", (name,))
        answered = stale = 0
        tokens: list[int] = []
        with (
            LockWorker(Bed(address, dsn, name, "stopped", _TTL_S, is_fenced)) as stopped,
            LockWorker(Bed(address, dsn, name, "other", _TTL_S, is_fenced)) as other,
        ):
            for _ in range(rounds):
                tokens.append(stopped.ask("take")["token"])
                stopped.pause()
                for _ in range(BETWEEN):
                    tokens.append(other.ask("take")["token"])
                    answered += other.ask("write")["written"]
                    other.ask("release")
                stopped.tell("write")
                stopped.resume()
                accepted = stopped.answer()["written"]
                answered, stale = answered + accepted, stale + accepted
                stopped.ask("release")
        row = conn.execute("SELECT value FROM fenced WHERE name = %s", (name,)).fetchone()
    value = int(row[0]) if row else 0
    in_order = all(later > former for former, later in pairwise(tokens))
    return Seen(rounds, answered, stale, answered - value, in_order)


def judged(seen: dict[tuple[str, bool], Seen]) -> Result:
    """Arms and claims of what was counted."""
    bare = {service: one for (service, is_fenced), one in seen.items() if not is_fenced}
    fenced = {service: one for (service, is_fenced), one in seen.items() if is_fenced}
    arms = [
        Arm(
            f"{service}, {'fenced' if is_fenced else 'unfenced'}",
            "treatment" if is_fenced else "control",
            {
                "rounds": one.rounds,
                "answered": one.answered,
                "stale_writes_accepted": one.stale,
                "updates_lost": one.lost,
            },
            ((0.0, float(one.lost)),),
        )
        for (service, is_fenced), one in seen.items()
    ]
    return Result(
        arms=tuple(arms),
        shape=(
            Claim(
                "Without a fence every write of a holder that was stopped past its lease is "
                "accepted, whoever keeps the lock.",
                all(one.stale == one.rounds for one in bare.values()),
                ", ".join(f"{name}: {one.stale} of {one.rounds}" for name, one in bare.items()),
            ),
            Claim(
                f"Each of them undoes the {BETWEEN} additions that were answered meanwhile.",
                all(one.lost == BETWEEN * one.rounds for one in bare.values()),
                ", ".join(f"{name}: {one.lost} of {one.answered}" for name, one in bare.items()),
            ),
            Claim(
                "With a fence none is accepted and nothing is lost.",
                all(one.stale == one.lost == 0 for one in fenced.values()),
                ", ".join(f"{name}: {one.lost} of {one.answered}" for name, one in fenced.items()),
            ),
            Claim(
                "Every token is above all that were given out for this lock before.",
                all(one.in_order for one in seen.values()),
                f"{sum(one.rounds for one in seen.values()) * (1 + BETWEEN)} holds",
            ),
        ),
        plot=Plot(Axis("arm"), Axis("updates lost"), kind="bars"),
        notes=(
            f"A lease of {_TTL_S} s; the holder is stopped between its read and its write.",
            "The holder's own clock does not help: it looked at it before it was stopped.",
            "A fenced number is shown the token when it is read, too: the fence rises before the "
            "successor's first write.",
        ),
    )


EXPERIMENT = Experiment(
    slug="distributed-lock",
    question="Is a lock enough, when its holder may be stopped for longer than its lease?",
    varied="whether what the lock protects looks at the holder's token; who keeps the lock",
    fixed=f"one lock, two processes, a lease of {_TTL_S} s, SIGSTOP between read and write",
    run=measure,
    topics=("P5.3",),
    needs=("redis", "zookeeper", "postgres"),
)
