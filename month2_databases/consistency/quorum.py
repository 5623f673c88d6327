"""How many replicas must answer, and what follows: overlap, survival, the chance of an old read.

Theory of operation
    A value stands on N replicas. A write is acknowledged by W of them, a read asks R and takes
    the newest answer. If R + W > N, any R replicas and any W share one, so a read that begins
    after an acknowledged write has ended meets it. If not, the R asked may all be among the N - W
    that were not waited for; picked blindly, that happens with chance C(N-W, R) / C(N, R). This is
    the worst case: replicas that were not waited for usually get the write a moment later.

Absent on purpose: writes that overlap in time. An overlap of replicas does not order them, and a
write that failed may still be read, or not, or both in turns: quorums alone are no compare-and-set.

Source: Gifford 1979, "Weighted voting for replicated data"; Bailis et al. 2012,
"Probabilistically bounded staleness".
"""

from __future__ import annotations

from enum import StrEnum
from math import comb

from scalelab.errors import InvalidInput


class Level(StrEnum):
    """How many replicas a request waits for."""

    ONE = "ONE"
    TWO = "TWO"
    QUORUM = "QUORUM"
    ALL = "ALL"


def needed(level: Level, replicas: int) -> int:
    """Replicas out of `replicas` >= 1 that must answer. InvalidInput where there are too few."""
    if replicas < 1:
        raise InvalidInput(f"{replicas} replicas hold nothing", field="replicas")
    count = {
        Level.ONE: 1,
        Level.TWO: 2,
        Level.QUORUM: replicas // 2 + 1,
        Level.ALL: replicas,
    }[level]
    if count > replicas:
        raise InvalidInput(f"{level} asks for {count} of {replicas} replicas", field="level")
    return count


def overlap(read: Level, write: Level, replicas: int) -> bool:
    """Whether R + W > N: a read meets every write that was acknowledged before it began."""
    return needed(read, replicas) + needed(write, replicas) > replicas


def is_served(level: Level, replicas: int, *, alive: int) -> bool:
    """Whether a request can be answered while `alive` of the replicas are."""
    return needed(level, replicas) <= alive


def tolerated(level: Level, replicas: int) -> int:
    """How many replicas may be away with requests at this level still answered."""
    return replicas - needed(level, replicas)


def stale_chance(read: Level, *, holding: int, replicas: int) -> float:
    """Chance that a read at `read` misses a value that only `holding` of the replicas have.

    The replicas asked are any, equally likely. 0.0 exactly when R + holding > N.
    """
    if not 0 <= holding <= replicas:
        raise InvalidInput(f"{holding} of {replicas} replicas cannot hold it", field="holding")
    asked = needed(read, replicas)
    return comb(replicas - holding, asked) / comb(replicas, asked)
