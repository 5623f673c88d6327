"""Two leaders, the line between them cut: what do five ways to meet conflicts keep of the writes?

Each arm: some rows that both sides know, then both write while apart, then the line heals. Counts
carry every claim: rows that differ afterwards, and writes that nobody can read any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from month2_databases.multi_leader import Leader, Pair
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres
from scalelab.lab.servers.postgres_config import RECIPE_18

_SETTINGS = {"fsync": "off", "track_commit_timestamp": "on"}
_DATABASE = "leaders"


@dataclass(frozen=True, slots=True)
class Way:
    """One table. seed: on both before the cut. left, right: each side's write to every row, one
    statement; {n} is the row's number. seen: how many writes of each side can be read."""

    name: str
    table: str
    seed: str
    left: str
    right: str
    seen: str


_WAYS = (
    Way(
        "nothing",
        "plain",
        "INSERT INTO plain VALUES ('{n}', 'first')",
        "UPDATE plain SET v = 'east' WHERE k = '{n}'",
        "UPDATE plain SET v = 'west' WHERE k = '{n}'",
        "SELECT count(*) FILTER (WHERE v = 'east'), count(*) FILTER (WHERE v = 'west') FROM plain",
    ),
    Way(
        "last write wins",
        "lww",
        "INSERT INTO lww (k, v) VALUES ('{n}', 'first')",
        "UPDATE lww SET v = 'east' WHERE k = '{n}'",
        "UPDATE lww SET v = 'west' WHERE k = '{n}'",
        "SELECT count(*) FILTER (WHERE v = 'east'), count(*) FILTER (WHERE v = 'west') FROM lww",
    ),
    Way(
        "by column",
        "by_column",
        "INSERT INTO by_column (k, title, price) VALUES ('{n}', 'first', '1')",
        "UPDATE by_column SET title = 'east' WHERE k = '{n}'",
        "UPDATE by_column SET price = '2' WHERE k = '{n}'",
        "SELECT count(*) FILTER (WHERE title = 'east'), count(*) FILTER (WHERE price = '2')"
        " FROM by_column",
    ),
    Way(
        "counter",
        "tally",
        "SELECT count_up('{n}', 10)",
        "SELECT count_up('{n}', 1)",
        "SELECT count_up('{n}', 2)",
        "SELECT coalesce(sum(added) FILTER (WHERE node = 'east'), 0) - 10 * count(DISTINCT k),"
        " coalesce(sum(added) FILTER (WHERE node = 'west'), 0) / 2 FROM tally",
    ),
    Way(
        "a home for each row",
        "homed",
        "INSERT INTO homed VALUES ('{n}', 'east', 'first')",
        "UPDATE homed SET v = 'east' WHERE k = '{n}'",
        "UPDATE homed SET v = 'west' WHERE k = '{n}'",
        "SELECT count(*) FILTER (WHERE v = 'east'), count(*) FILTER (WHERE v = 'west') FROM homed",
    ),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """Of the accepted writes: how many can be read on the left copy, and on the right one."""

    accepted: int
    refused: int
    left: int
    right: int
    apart: int

    @property
    def lost(self) -> int:
        """Writes that were accepted and cannot be read on the copy that shows fewer."""
        return self.accepted - min(self.left, self.right)


def run(lab: Lab) -> Result:
    """All five ways on one pair of servers."""
    count = 50 if lab.quick else 500
    servers = [Postgres(name, settings=_SETTINGS, recipe=RECIPE_18) for name in ("east", "west")]
    lab.runtime.start(*servers)
    for server in servers:
        server.ensure_database(_DATABASE, "shop")
    east, west = (Leader(one.name, one.superuser_dsn(_DATABASE)) for one in servers)
    pair = Pair(east, west)
    pair.create()
    seen: dict[str, Seen] = {}
    for way in _WAYS:
        seen[way.name] = measure(pair, way, count)
        lab.note(f"{way.name}: {seen[way.name]}")
    return judge(seen, count)


def measure(pair: Pair, way: Way, count: int) -> Seen:
    """Seed, cut, write on both sides, heal, compare."""
    _write(pair.left, way.seed, count)
    pair.settle()
    pair.cut()
    left, _ = _write(pair.left, way.left, count)
    right, refused = _write(pair.right, way.right, count)
    pair.heal()
    pair.settle()
    difference = pair.difference(way.table)
    apart = len(difference.only_left + difference.only_right + difference.unequal)
    return Seen(left + right, refused, _count(pair.left, way), _count(pair.right, way), apart)


def _write(leader: Leader, statement: str, count: int) -> tuple[int, int]:
    """Run it for each row, each on its own. Accepted, and refused by a rule of the table."""
    refused = 0
    with psycopg.connect(leader.dsn, autocommit=True) as conn:
        for number in range(count):
            try:
                conn.execute(statement.format(n=number).encode())
            except psycopg.errors.CheckViolation:
                refused += 1
    return count - refused, refused


def _count(leader: Leader, way: Way) -> int:
    with psycopg.connect(leader.dsn, autocommit=True) as conn:
        row = conn.execute(way.seen.encode()).fetchone()
    return sum(int(number) for number in row) if row else 0


def judge(seen: dict[str, Seen], count: int) -> Result:
    """The arms, and what is claimed of them."""
    nothing, lww, home = seen["nothing"], seen["last write wins"], seen["a home for each row"]
    kept_all = [seen["by column"], seen["counter"]]
    shape = (
        Claim(
            "With nothing done the copies stay apart in every row, for ever.",
            nothing.apart == count,
            f"{nothing.apart} of {count} rows differ after both have everything",
        ),
        Claim(
            "Every resolution makes the copies equal.",
            all(one.apart == 0 for name, one in seen.items() if name != "nothing"),
            "; ".join(f"{name}: {one.apart} rows differ" for name, one in seen.items()),
        ),
        Claim(
            "Last write wins loses exactly one of two accepted writes to a row, and tells nobody.",
            lww.lost == count and lww.refused == 0,
            f"{lww.lost} of {lww.accepted} accepted writes can be read nowhere",
        ),
        Claim(
            "Merging by column and counting lose nothing where the writes do not collide.",
            all(one.lost == 0 and one.refused == 0 for one in kept_all),
            "; ".join(f"{one.lost} of {one.accepted} lost" for one in kept_all),
        ),
        Claim(
            "A home for each row loses nothing, because it refuses half of the writes at once.",
            (home.lost, home.refused) == (0, count),
            f"{home.refused} refused, {home.lost} of {home.accepted} accepted ones lost",
        ),
    )
    arms = tuple(
        Arm(
            name,
            "control" if name == "nothing" else "treatment",
            {
                "accepted": one.accepted,
                "refused": one.refused,
                "lost": one.lost,
                "rows_apart": one.apart,
            },
            ((0, float(one.lost)),),
        )
        for name, one in seen.items()
    )
    return Result(
        arms,
        shape,
        Plot(Axis(""), Axis("accepted writes that were lost"), "bars"),
        notes=(
            "Lost: on the copy that shows fewer of the accepted writes. With nothing done each "
            "copy shows one of two.",
        ),
    )


EXPERIMENT = Experiment(
    slug="multi-leader-conflict",
    question="What becomes of two writes to one row, made on two leaders that cannot hear each "
    "other?",
    varied="the way conflicts are met",
    fixed="two leaders, their rows, the cut line, the order of writes",
    run=run,
    topics=("A5",),
    needs=("postgres",),
)
