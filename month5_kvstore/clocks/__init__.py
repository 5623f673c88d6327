"""Clocks that order writes of several nodes: the wall's, Lamport's, a hybrid one, and vectors."""

from month5_kvstore.clocks.stamps import (
    Stamp,
    Vector,
    hybrid,
    lamport,
    merged,
    precedes,
    ticked,
)

__all__ = ["Stamp", "Vector", "hybrid", "lamport", "merged", "precedes", "ticked"]
