"""Numbers for the commands of one session, and up to where their answers are all here. Pure.

Invariants (tests cite them)
    N1  A number is given once.
    N2  Everything below `acknowledged_below` was finished; nothing that is open is.
"""

from __future__ import annotations


class Numbering:
    """Of one session; several commands may be open at once."""

    __slots__ = ("_next", "_open")

    def __init__(self) -> None:
        self._next = 1
        self._open: set[int] = set()

    def begin(self) -> int:
        """A number for a new command."""
        number = self._next
        self._next += 1
        self._open.add(number)
        return number

    def finish(self, number: int) -> None:
        """Its answer is here, or nobody waits for it any more."""
        self._open.discard(number)

    @property
    def acknowledged_below(self) -> int:
        """The lowest open number, or the next one."""
        return min(self._open, default=self._next)
