"""The primary's machine is gone: which acknowledged writes are gone with it?

Three Patroni nodes and one etcd. Replication is held just before the kill, so what the replicas
lack is known by count and not by luck. The lease of the dead leader is ended by hand: the arms
count writes, and waiting for the lease would measure its length, which is a setting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from month2_databases.failover import Attempt, Outcome, Verdict, beyond, judge
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import PatroniCluster, PatroniNode, PatroniSettings

_LSN = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
_SENT = "SELECT count(*) FROM pg_stat_replication WHERE flush_lsn - '0/0'::pg_lsn >= {lsn}".format
_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class Seen:
    """verdict: of the ledger. behind: acknowledged writes behind the fork. recovered_s: from the
    kill to a leader that takes writes, without the wait for the lease."""

    verdict: Verdict
    behind: int | None
    recovered_s: float


def run(lab: Lab) -> Result:
    """One cluster, three arms; it is whole again before each."""
    held = 20 if lab.quick else 200
    settings = PatroniSettings(loop_wait_s=1, postgres={"fsync": "off"})
    cluster = PatroniCluster("failover", settings=settings)
    cluster.start(lab.runtime)
    with psycopg.connect(cluster.leader().dsn(), autocommit=True) as conn:
        conn.execute("CREATE TABLE entry (arm text, key text)")
    seen: dict[str, Seen] = {}
    for name, synchronous in (("asynchronous", False), ("synchronous", True)):
        cluster.configure(synchronous_mode=synchronous)
        seen[name] = lose_machine(lab, cluster, name, held=held)
        lab.note(f"{name}: {len(seen[name].verdict.lost)} acknowledged writes lost")
    seen["PostgreSQL alone"] = lose_postgres(lab, cluster, "PostgreSQL alone", held=held)
    return judged(seen, held)


def lose_machine(lab: Lab, cluster: PatroniCluster, arm: str, *, held: int) -> Seen:
    """Writes that were sent, then writes that are not, then Patroni and PostgreSQL are killed."""
    old = cluster.leader()
    ledger = Ledger(old, arm)
    ledger.write("sent", 50)
    lsn = ledger.attempts[-1].lsn
    _until(lambda: _ask(old, _SENT(lsn=lsn)) == 2, "both replicas have all of it")
    old.hold_replication()
    writing = threading.Thread(target=ledger.write, args=("held", held))
    writing.start()
    _until(lambda: not writing.is_alive() or _waits(old), "written, or waiting for a replica")
    lab.runtime.kill(old.name)
    begun_s = time.monotonic()
    writing.join(_WITHIN_S)
    cluster.expire_lease()
    new = cluster.leader(other_than=old.name)
    recovered_s = time.monotonic() - begun_s
    verdict = judge(ledger.attempts, ledger.found(new))
    cluster.repair(lab.runtime)
    fork = cluster.last_fork()
    behind = None if fork is None else len(beyond(ledger.attempts, fork))
    return Seen(verdict, behind, recovered_s)


def lose_postgres(lab: Lab, cluster: PatroniCluster, arm: str, *, held: int) -> Seen:
    """PostgreSQL is killed and its Patroni is not."""
    leader = cluster.leader()
    ledger = Ledger(leader, arm)
    ledger.write("sent", held)
    before = leader.postmaster()
    leader.kill_postgres()
    begun_s = time.monotonic()
    _until(lambda: leader.postmaster() not in (None, before), "another PostgreSQL")
    new = cluster.leader()
    recovered_s = time.monotonic() - begun_s
    cluster.repair(lab.runtime)
    return Seen(judge(ledger.attempts, ledger.found(new)), None, recovered_s)


class Ledger:
    """One client: a commit a write, and what it was told. A lost connection ends it."""

    def __init__(self, node: PatroniNode, arm: str) -> None:
        self.attempts: list[Attempt] = []
        self._dsn = node.dsn()
        self._arm = arm

    def write(self, prefix: str, count: int) -> None:
        """Up to `count` writes; one that is cut off is unknown, none after it is sent."""
        with psycopg.connect(self._dsn, autocommit=True, connect_timeout=20) as conn:
            for number in range(count):
                key = f"{prefix}{number}"
                try:
                    conn.execute("INSERT INTO entry VALUES (%s, %s)", (self._arm, key))
                    row = conn.execute(_LSN).fetchone()
                except psycopg.OperationalError:
                    self.attempts.append(Attempt(key, Outcome.UNKNOWN))
                    return
                lsn = int(row[0]) if row else None
                self.attempts.append(Attempt(key, Outcome.ACKNOWLEDGED, lsn))

    def found(self, node: PatroniNode) -> list[str]:
        """The keys of this client on a node."""
        query = "SELECT key FROM entry WHERE arm = %s"
        with psycopg.connect(node.dsn(), connect_timeout=20) as conn:
            return [str(row[0]) for row in conn.execute(query, (self._arm,)).fetchall()]


def _waits(node: PatroniNode) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    return _ask(node, query) == 1


def _ask(node: PatroniNode, query: str) -> int:
    with psycopg.connect(node.dsn(), autocommit=True, connect_timeout=20) as conn:
        row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


def _until(claim: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _WITHIN_S
    while not claim():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {_WITHIN_S:.0f} s: {what}")
        time.sleep(0.02)


def judged(seen: dict[str, Seen], held: int) -> Result:
    """The arms, and what is claimed of them."""
    one, two, alone = seen["asynchronous"], seen["synchronous"], seen["PostgreSQL alone"]
    shape = (
        Claim(
            "An asynchronous failover loses exactly what was acknowledged and had not left.",
            len(one.verdict.lost) == held and len(one.verdict.kept) == 50,
            f"{len(one.verdict.lost)} lost of {held} held back, {len(one.verdict.kept)} kept",
        ),
        Claim(
            "All of it lies behind the point where the new timeline leaves the old one.",
            one.behind == len(one.verdict.lost),
            f"{one.behind} acknowledged commits behind the fork",
        ),
        Claim(
            "A synchronous failover loses nothing acknowledged: the commit is unknown instead.",
            two.verdict.is_clean
            and len(two.verdict.kept) == 50
            and len(two.verdict.unknown_gone + two.verdict.unknown_kept) == 1,
            f"{len(two.verdict.lost)} lost, {len(two.verdict.kept)} kept, "
            f"{len(two.verdict.unknown_gone + two.verdict.unknown_kept)} unknown",
        ),
        Claim(
            "PostgreSQL killed under a living Patroni loses nothing.",
            alone.verdict.is_clean and len(alone.verdict.kept) == held,
            f"{len(alone.verdict.lost)} lost, {len(alone.verdict.kept)} kept",
        ),
    )
    arms = tuple(
        Arm(
            name,
            "control" if name == "asynchronous" else "treatment",
            {
                "kept": len(each.verdict.kept),
                "lost": len(each.verdict.lost),
                "unknown": len(each.verdict.unknown_gone + each.verdict.unknown_kept),
                "recovered_s": round(each.recovered_s, 1),
            },
            ((0, float(len(each.verdict.lost))),),
        )
        for name, each in seen.items()
    )
    return Result(
        arms,
        shape,
        Plot(Axis(""), Axis("acknowledged writes that were lost"), "bars"),
        notes=(
            "recovered_s leaves out the lease of the dead leader (up to 20 s), which was ended by "
            "hand; on few cores it says more about the machine than about Patroni.",
        ),
    )


EXPERIMENT = Experiment(
    slug="database-failover",
    question="Which acknowledged writes does a failover lose, and which can it not lose?",
    varied="whether a commit waits for a replica, and what is killed",
    fixed="three nodes, what had been sent and what had not",
    run=run,
    topics=("D1", "R3"),
    needs=("postgres", "etcd", "patroni"),
)
