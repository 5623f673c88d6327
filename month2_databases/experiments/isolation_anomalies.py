"""Which anomaly does which isolation level let happen? The matrix, made by real sessions.

Every cell is one scripted history (isolation_histories.py) on two sessions of a real PostgreSQL:
the interleaving is fixed by steps, so a cell has one outcome. Whether the anomaly took place is
judged from what the sessions read and from the rows that are left.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from psycopg import AsyncConnection

from month2_databases.experiments.isolation_histories import (
    EXPECTED,
    HISTORIES,
    LEVELS,
    Sessions,
)
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Lab, Plot, Result
from scalelab.lab.servers import Postgres


@dataclass(frozen=True, slots=True)
class Cell:
    """happened: the anomaly took place. refused: SQLSTATEs that ended a transaction instead."""

    happened: bool
    refused: tuple[str, ...]


Matrix = dict[str, dict[str, Cell]]
"""Level → anomaly → cell."""


async def measure(dsn: str) -> Matrix:
    """All cells, on three connections."""
    matrix: Matrix = {}
    async with AsyncExitStack() as stack:
        first, second, watcher = [
            await stack.enter_async_context(await AsyncConnection.connect(dsn, autocommit=True))
            for _ in range(3)
        ]
        sessions = Sessions((first, second), watcher)
        for level in LEVELS:
            for history in HISTORIES:
                outcome = await sessions.play(history, level)
                cell = Cell(history.happened(outcome.seen), tuple(outcome.refused))
                matrix.setdefault(level, {})[history.name] = cell
    return matrix


def run(lab: Lab) -> Result:
    """The matrix three times: it must be the same each time."""
    server = Postgres("isolation")
    lab.runtime.start(server)
    dsn = server.ensure_database("isolation", "learner")
    matrices = [asyncio.run(measure(dsn)) for _ in range(3)]
    for level, row in matrices[0].items():
        lab.note(f"{level}: {', '.join(n for n, cell in row.items() if cell.happened) or 'none'}")
    return judge(matrices)


def judge(matrices: list[Matrix]) -> Result:
    """The arms, and what is claimed of them."""
    matrix = matrices[0]
    found = {
        level: frozenset(name for name, cell in row.items() if cell.happened)
        for level, row in matrix.items()
    }
    wrong = [f"{level}: {sorted(found[level] ^ EXPECTED[level])}" for level in LEVELS]
    differs = [
        text for text, level in zip(wrong, LEVELS, strict=True) if found[level] != EXPECTED[level]
    ]
    refused = {
        level: sum(bool(cell.refused) for cell in row.values()) for level, row in matrix.items()
    }
    counts = [len(found[level]) for level in LEVELS]
    states = {state for row in matrix.values() for cell in row.values() for state in cell.refused}
    return Result(
        arms=tuple(
            Arm(
                level,
                "control" if level == "SERIALIZABLE" else "treatment",
                {
                    **{n.replace(" ", "_"): _shown(cell) for n, cell in matrix[level].items()},
                    "anomalies": len(found[level]),
                    "refused": refused[level],
                },
                ((0.0, float(len(found[level]))),),
            )
            for level in LEVELS
        ),
        shape=(
            Claim(
                "Every cell is what PostgreSQL's documentation says.",
                not differs,
                "; ".join(differs) or f"{sum(map(len, matrix.values()))} cells",
            ),
            Claim(
                "A stricter level never lets more happen, and the strictest nothing.",
                counts == sorted(counts, reverse=True) and counts[-1] == 0,
                ", ".join(map(str, counts)),
            ),
            Claim(
                "What a level forbids it either does not show or refuses with 40001.",
                states <= {"40001"} and refused["READ COMMITTED"] == 0,
                f"refused: {refused}, by {sorted(states)}",
            ),
            Claim(
                "The same steps give the same matrix each time.",
                all(other == matrix for other in matrices),
                f"{len(matrices)} runs",
            ),
        ),
        plot=Plot(Axis(""), Axis("anomalies that happen, of seven"), "bars"),
        notes=(
            "PostgreSQL has no READ UNCOMMITTED: it takes the word and gives READ COMMITTED.",
            "A refused transaction changed nothing; it is run again, whole.",
        ),
    )


def _shown(cell: Cell) -> str:
    if cell.happened:
        return "happens"
    return "refused" if cell.refused else "–"


EXPERIMENT = Experiment(
    slug="isolation-anomalies",
    question="Which anomaly does which isolation level let happen?",
    varied="the isolation level, and the history that two sessions play",
    fixed="two rows, two sessions, the order of their steps",
    run=run,
    topics=("D4",),
    needs=("postgres",),
)
