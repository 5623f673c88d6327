"""The participant's side: an action and its undo may come twice, late or in wrong order. Pure.

Theory of operation
    The orchestrator may give up on an action that is still on its way. Its undo can then overtake
    it. The participant answers the undo at once and keeps a *tombstone*: the action, should it
    arrive later, is refused and never carried out.

        UNTOUCHED --do, possible--> DONE --undo--> UNDONE
            |  \\--do, impossible--> REFUSED --undo--> UNDONE
            \\------- undo (tombstone) ---------------> UNDONE --do--> UNDONE

Invariants
    P1  The action is carried out at most once, and undone at most once.
    P2  After an undo was answered the action has no effect, now or ever.
    P3  Every request gets an answer, the same one for the same request and state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Stand(Enum):
    """What a participant knows of one saga; store it under the saga's id."""

    UNTOUCHED = "untouched"
    DONE = "done"
    REFUSED = "refused"
    UNDONE = "undone"


class Request(Enum):
    """What the orchestrator asks for."""

    DO = "do"
    UNDO = "undo"


class Work(Enum):
    """What the participant has to do to its own data, in the transaction that stores the stand."""

    NOTHING = "nothing"
    CARRY_OUT = "carry out"
    TAKE_BACK = "take back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The stand to store, the work to do with it, and the answer: the stand as the peer sees it."""

    stand: Stand
    work: Work

    @property
    def answer(self) -> Stand:
        """DONE, REFUSED or UNDONE; a refused late action is answered UNDONE (a tombstone)."""
        return self.stand


def decide(stand: Stand, request: Request, *, possible: bool = True) -> Verdict:
    """Decide on `request`. possible: whether the action can be carried out if it comes to that."""
    if request is Request.UNDO:
        work = Work.TAKE_BACK if stand is Stand.DONE else Work.NOTHING
        return Verdict(Stand.UNDONE, work)
    if stand is not Stand.UNTOUCHED:
        return Verdict(stand, Work.NOTHING)
    if possible:
        return Verdict(Stand.DONE, Work.CARRY_OUT)
    return Verdict(Stand.REFUSED, Work.NOTHING)
