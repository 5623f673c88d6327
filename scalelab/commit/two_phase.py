"""Two-phase commit with presumed abort: (state, event) -> (state, effects). Pure.

Theory of operation
    Phase 1 asks every participant to prepare. One that votes yes has put its part on disk and may
    no longer change its mind: it is in doubt until it is told. Phase 2 tells. Between the two
    stands one write: the decision goes into a register where the first one to write a transaction
    wins and every later one reads what was written. The transaction is committed at that instant,
    and nobody is told to commit before it.

    Abort is presumed: a coordinator that gives up writes nothing, and a transaction the register
    does not know is none that committed. Whoever finds a participant in doubt, after a crash or
    while the coordinator is only slow, records an abort. If that wins, a coordinator that comes
    back to record its commit reads the abort; if it loses, it reads the commit. So anybody may
    recover at any time, without knowing whether the coordinator is dead.

    Messages may be lost, doubled, late and in any order; effects may be carried out twice.

Invariants (tests cite them; they hold in every reachable state)
    I1  No participant commits while another one aborts.
    I2  COMMIT is decided only if every participant voted YES or READ_ONLY.
    I3  Finish(COMMIT) and Answer(COMMIT) come only after the register said COMMIT, or when all
        participants were READ_ONLY.
    I4  Whatever was lost, `recover` and a working network leave nobody in doubt.
    I5  A commit is forgotten only after everybody has acknowledged it.

What blocks: a participant in doubt keeps its locks until it can reach the register. That is no
flaw of this code but of the protocol (Skeen 1981); keep the register replicated.
A register that throws old aborts away must refuse commits that old (see the PostgreSQL one).

Sources: Gray 1978, "Notes on data base operating systems"; Mohan, Lindsay and Obermarck 1986,
"Transaction management in the R* distributed database management system" (presumed abort,
read-only votes); differs in: the log is a first-writer-wins register that anybody may write.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from scalelab.errors import InvalidInput


class Vote(StrEnum):
    """A participant's answer to Prepare. READ_ONLY: it changed nothing and is done already."""

    YES = "yes"
    NO = "no"
    READ_ONLY = "read_only"


class Outcome(StrEnum):
    """How a transaction ends."""

    COMMIT = "commit"
    ABORT = "abort"


class Phase(StrEnum):
    """Where the coordinator stands."""

    PREPARING = "preparing"
    DECIDING = "deciding"
    FINISHING = "finishing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Voted:
    """A participant voted; or a connection to it said that it cannot (Vote.NO)."""

    participant: str
    vote: Vote


@dataclass(frozen=True, slots=True)
class OutOfTime:
    """The time for this phase is over: preparing gives up, later phases ask again."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the register holds for this transaction now."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A participant has carried the outcome out, or knows of no such transaction any more."""

    participant: str


Event = Voted | OutOfTime | Recorded | Acknowledged


@dataclass(frozen=True, slots=True)
class Prepare:
    """Ask a participant to prepare and to vote."""

    participant: str


@dataclass(frozen=True, slots=True)
class Record:
    """Write `outcome` into the register unless it knows the transaction; read what it holds.

    Durable before `Recorded` is told. If the answer is lost, do it again: it is idempotent.
    """

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Finish:
    """Tell a participant the outcome."""

    participant: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the client; the outcome is final, though participants may still be in doubt."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Forget:
    """The register's record of a commit may go: everybody has it (I5)."""


Effect = Prepare | Record | Finish | Answer | Forget


@dataclass(frozen=True, slots=True)
class Coordination:
    """One transaction. silent: who has not voted. prepared: who voted YES. untold: who has not
    acknowledged the outcome. outcome: None until it is decided."""

    participants: tuple[str, ...]
    phase: Phase
    silent: frozenset[str] = frozenset()
    prepared: frozenset[str] = frozenset()
    untold: frozenset[str] = frozenset()
    outcome: Outcome | None = None
    recovering: bool = False


Step = tuple[Coordination, tuple[Effect, ...]]


def begin(participants: Iterable[str]) -> Step:
    """A new transaction over these participants, each once; asks all of them to prepare."""
    names = _named(participants)
    state = Coordination(names, Phase.PREPARING, silent=frozenset(names))
    return state, tuple(Prepare(name) for name in names)


def recover(in_doubt: Iterable[str]) -> Step:
    """End a transaction whose coordinator may be gone. in_doubt: participants found prepared."""
    names = _named(in_doubt)
    prepared = frozenset(names)
    state = Coordination(names, Phase.DECIDING, prepared=prepared, recovering=True)
    return state, (Record(Outcome.ABORT),)


def decide(known: Outcome | None, wanted: Outcome) -> Outcome:
    """The register's rule: what it holds after somebody wrote `wanted`. The first one wins."""
    return wanted if known is None else known


def step(state: Coordination, event: Event) -> Step:
    """Tell the coordinator one event; returns where it stands and what to carry out.

    Raises InvalidInput code `unknown_participant` for a vote or an acknowledgement of a stranger.
    """
    match event:
        case Voted():
            return _voted(_known(state, event.participant), event)
        case OutOfTime():
            return _out_of_time(state)
        case Recorded():
            return _recorded(state, event.outcome)
        case Acknowledged():
            return _acknowledged(_known(state, event.participant), event.participant)


def _voted(state: Coordination, event: Voted) -> Step:
    who = event.participant
    if state.phase is not Phase.PREPARING:
        # It prepared after the others were told to abort: it must not stay in doubt.
        late = state.outcome is Outcome.ABORT and event.vote is Vote.YES
        if not late:
            return state, ()
        state = replace(state, untold=state.untold | {who}, phase=Phase.FINISHING)
        return state, (Finish(who, Outcome.ABORT),)
    if who not in state.silent:
        return state, ()
    state = replace(state, silent=state.silent - {who})
    if event.vote is Vote.NO:
        return _abort(state)
    if event.vote is Vote.YES:
        state = replace(state, prepared=state.prepared | {who})
    if state.silent:
        return state, ()
    if not state.prepared:  # all READ_ONLY: there is nothing to decide
        done = replace(state, phase=Phase.DONE, outcome=Outcome.COMMIT)
        return done, (Answer(Outcome.COMMIT),)
    return replace(state, phase=Phase.DECIDING), (Record(Outcome.COMMIT),)


def _out_of_time(state: Coordination) -> Step:
    match state.phase:
        case Phase.PREPARING:
            return _abort(state)
        case Phase.DECIDING:
            # The record may stand already: only the register can say. Giving up here is the bug.
            wanted = Outcome.ABORT if state.recovering else Outcome.COMMIT
            return state, (Record(wanted),)
        case Phase.FINISHING:
            return state, _tell(state)
        case Phase.DONE:
            return state, ()


def _recorded(state: Coordination, outcome: Outcome) -> Step:
    if state.phase is not Phase.DECIDING:
        return state, ()
    state = replace(state, phase=Phase.FINISHING, outcome=outcome, untold=state.prepared)
    answer = () if state.recovering else (Answer(outcome),)
    return state, (*answer, *_tell(state))


def _acknowledged(state: Coordination, who: str) -> Step:
    if state.phase is not Phase.FINISHING or who not in state.untold:
        return state, ()
    state = replace(state, untold=state.untold - {who})
    if state.untold:
        return state, ()
    # A recovery sees only those it found in doubt, so it cannot know that everybody has it.
    forget = state.outcome is Outcome.COMMIT and not state.recovering
    return replace(state, phase=Phase.DONE), ((Forget(),) if forget else ())


def _abort(state: Coordination) -> Step:
    """Give up before anything was recorded. Those that are silent may have prepared as well."""
    untold = state.prepared | state.silent
    phase = Phase.FINISHING if untold else Phase.DONE
    state = replace(state, phase=phase, outcome=Outcome.ABORT, untold=untold)
    return state, (Answer(Outcome.ABORT), *_tell(state))


def _tell(state: Coordination) -> tuple[Effect, ...]:
    if state.outcome is None:
        return ()
    outcome = state.outcome
    return tuple(Finish(name, outcome) for name in state.participants if name in state.untold)


def _named(participants: Iterable[str]) -> tuple[str, ...]:
    names = tuple(participants)
    if not names or len(set(names)) != len(names):
        raise InvalidInput("participants are needed, each once", field="participants")
    return names


def _known(state: Coordination, participant: str) -> Coordination:
    if participant not in state.participants:
        raise InvalidInput(
            f"{participant!r} is no participant", field="participant", code="unknown_participant"
        )
    return state
