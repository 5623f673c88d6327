"""Scatter and gather: one statement to many shards at once, each with a deadline, then a merge.

The answer takes as long as the slowest shard that is waited for. What a missing shard means is the
caller's to say beforehand: refuse the whole (an invoice total) or do without (a search page).
Shards are read at slightly different instants; a sum over them is no snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from month2_databases.sharding.merge import Merge, concatenated
from month2_databases.sharding.shard_pool import Row, ShardPool, Statement
from scalelab.errors import Retryable, ScalelabError, Unavailable


class Partial(StrEnum):
    """What if a shard does not answer in time: REFUSE the whole answer, or ALLOW one without it."""

    REFUSE = "refuse"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Gathered:
    """rows: merged. missing: shards without an answer, each with its error; empty under REFUSE."""

    rows: list[Row]
    missing: Mapping[str, ScalelabError] = field(default_factory=dict[str, ScalelabError])


async def gather(
    pools: Mapping[str, ShardPool],
    statement: Statement,
    params: Sequence[object] = (),
    *,
    merge: Merge = concatenated,
    deadline_s: float = 2.0,
    partial: Partial = Partial.REFUSE,
) -> Gathered:
    """Ask every pool at once; each has `deadline_s` to answer. The statement only reads.

    Under REFUSE the first shard that fails ends the others and raises Unavailable code
    `scatter_incomplete`. Under ALLOW that is raised only if no shard answers at all. An error that
    another try would not cure (a broken statement) is raised as it is under both.
    """
    answers: dict[str, list[Row]] = {}
    missing: dict[str, ScalelabError] = {}

    async def ask(name: str, pool: ShardPool) -> None:
        try:
            answers[name] = await pool.fetch(statement, params, timeout_s=deadline_s)
        except Retryable as error:
            missing[name] = error
            if partial is Partial.REFUSE:
                raise

    try:
        async with asyncio.TaskGroup() as group:
            for name, pool in pools.items():
                group.create_task(ask(name, pool))
    except ExceptionGroup as failed:
        error = failed.exceptions[0]
        if isinstance(error, Retryable):
            raise _incomplete(missing) from error
        raise error from None
    if pools and not answers:
        raise _incomplete(missing) from next(iter(missing.values()))
    return Gathered(merge([answers[name] for name in pools if name in answers]), missing)


def _incomplete(missing: Mapping[str, ScalelabError]) -> Unavailable:
    evidence = "; ".join(f"{name}: {error}" for name, error in sorted(missing.items()))
    return Unavailable(f"not every shard answered: {evidence}", code="scatter_incomplete")
