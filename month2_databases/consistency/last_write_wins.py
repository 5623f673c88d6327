"""Last write wins: how replicas that heard different writes come to one value without talking.

Every cell carries the microsecond at which its writer thinks it was written. Merging two cells
keeps the later one. At equal times a tombstone beats a value and a larger value a smaller one: any
rule would do, as long as it is the same everywhere.

Invariants (tests cite them)
    I1  Merging is commutative, associative and idempotent: order and repeats do not matter, so
        replicas that have heard the same writes agree.
    I2  The result is one of the two: nothing is made up, and one of two concurrent writes is lost
        without anybody being told.
    I3  "Last" is what the writers' clocks say. A writer whose clock runs ahead by s seconds wins
        over everybody for s seconds, and its own later writes lose if its clock is set back.

Source: Johnson and Thomas 1975, RFC 677; Shapiro et al. 2011, "Conflict-free replicated data
types" (LWW register).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """value: None is a tombstone, "deleted". written_us: microseconds by the writer's clock."""

    value: bytes | None
    written_us: int


def merge(one: Cell, other: Cell) -> Cell:
    """The cell that every replica keeps of these two."""
    return max(one, other, key=_rank)


def settle(cells: Iterable[Cell]) -> Cell | None:
    """What is left when all of these have been heard, in whatever order; None of none."""
    return max(cells, key=_rank, default=None)


def silently_lost(acknowledged: Iterable[Cell]) -> list[Cell]:
    """Acknowledged writes that nobody will ever read, in the order given.

    Cells that were overwritten on purpose are among them: only the writers know which were.
    """
    cells = list(acknowledged)
    kept = settle(cells)
    return [cell for cell in cells if cell != kept]


def _rank(cell: Cell) -> tuple[int, bool, bytes]:
    return cell.written_us, cell.value is None, cell.value or b""
