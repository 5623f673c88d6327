"""What became of one question that many were asked: who answered, who did not, and why. Pure.

Theory of operation
    A question goes to n parts and is answered when the last of them has answered. If each part is
    quick with chance p, all n are with chance p^n: of 100 gathers over 50 parts, each quick 99
    times of 100, 39 wait for somebody. A deadline ends the wait, and what came by then is handed
    over together with what is missing. A second request to a second place (a hedge) makes a part
    slow only where both places are: (1 - (1 - p)^2)^n.

Invariants (tests cite them)
    F1  Every part stands in exactly one of `answers` and `missing`.
    F2  No request begins after the deadline, and none is under way when the gather returns.
    F3  At most `at_once` parts are under way, each with one request, or two where it is hedged.
    F4  A part's answer is one request's; the other one is cancelled.
    F5  Of n parts that were begun at most burst + share * n asked a second place.

Source: Dean and Barroso 2013, "The tail at scale"; differs in: a part that failed is reported, and
asks its second place at once instead of after the percentile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from scalelab.errors import InvalidInput, Unavailable

T = TypeVar("T")


class Why(Enum):
    """Why a part is missing."""

    NOT_BEGUN = "not_begun"
    """The deadline came before its turn: nothing was sent."""
    LATE = "late"
    """It was asked and had not answered when its time was over."""
    FAILED = "failed"
    """It answered with an error, or could not be reached."""


@dataclass(frozen=True, slots=True)
class Missing:
    """One part without an answer. code: stable, the error's own. error: for a log, if it failed."""

    why: Why
    code: str
    error: Exception | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Gathered(Generic[T]):
    """answers and missing: by part's name (F1). hedged: parts that asked a second place.

    rescued: those among them whose answer came from there.
    """

    answers: Mapping[str, T]
    missing: Mapping[str, Missing]
    hedged: int = 0
    rescued: int = 0

    @property
    def complete(self) -> bool:
        """Whether every part answered."""
        return not self.missing

    def need(self, least: int) -> Gathered[T]:
        """Itself, if at least so many parts answered; else Unavailable, code `too_few_parts`."""
        if len(self.answers) >= least:
            return self
        of_all = len(self.answers) + len(self.missing)
        raise Unavailable(
            f"{len(self.answers)} of {of_all} parts answered, {least} are needed; "
            f"missing: {', '.join(sorted(self.missing))}",
            code="too_few_parts",
        )


def chance_all(chance_one: float, parts: int, *, places: int = 1) -> float:
    """The chance that all parts answer in time, if each place does with `chance_one`, 0..1.

    places: how many are asked for each part, one of which is enough. Places are taken to be
    independent; a shared switch, disk or collector pause makes the truth worse.

    Raises InvalidInput for what is no chance or no count.
    """
    if not 0 <= chance_one <= 1:
        raise InvalidInput("a chance lies between 0 and 1", field="chance_one")
    if parts < 0 or places < 1:
        raise InvalidInput("there are no fewer parts than 0 or places than 1", field="parts")
    return (1 - (1 - chance_one) ** places) ** parts
