"""Commit, recovery and reading over key-value groups, around the core's coordinator. Pure.

Theory of operation
    A transaction reads first and remembers the revisions. Phase 1 locks: on each group one command
    puts an intent on every key that was read or written, if the key is as it was and nobody else's
    intent is there. All locked, the decision is recorded: one key, whose first writer wins. Phase 2
    replaces intents by values. Locking never waits, so nobody waits in a circle.

    Who meets an intent asks for the decision. If there is one, it ends the transaction itself,
    forwards or back. If there is none, it waits for some pauses, then records an abort, and ends
    the transaction by what the record says then. No client is ever asked whether it lives.

Claims (tests cite them)
    C1  Atomic: all changes of a transaction come into force when COMMIT is recorded, or none ever.
    C2  Strictly serializable among transactions of this room. A writing one takes effect at the
        instant of its record (in one group alone: of its command): all it read and writes is locked
        then, and as it was read. A reading one takes effect between its last look and its check.
    C3  A coordinator that dies blocks the keys it locked, until somebody meets them or sweeps.
    C4  No lost update: of two that read the same version and write it, one at most commits.

Not given: anything towards plain writes to the same keys; they pass by the intents. Plain reads see
committed values, but of two keys one before and one after a commit. Shared locks: two that only
read a key conflict if both write something elsewhere.

A call must be carried out at most once, however late: an intent that came again after its
transaction ended would undo later writes. The client's numbered sessions see to it.

Sources: Kung and Robinson 1981, "On optimistic methods for concurrency control"; Peng and Dabek
2010, "Large-scale incremental processing using distributed transactions" (locks beside the data,
anybody cleans up); differs in: the decision is a record of its own, and reads are locked as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from month5_kvstore.store import KeyValue, Refused, Transaction, TransactionDone
from month5_kvstore.transactions import intents as wire
from month5_kvstore.transactions.calls import Call, Pause, Protocol, Reply
from month5_kvstore.transactions.intents import Intent
from month5_kvstore.transactions.workspace import Workspace, by_participant
from scalelab.commit import (
    Acknowledged,
    Coordination,
    Effect,
    Event,
    Finish,
    Forget,
    Outcome,
    OutOfTime,
    Phase,
    Prepare,
    Record,
    Recorded,
    Vote,
    Voted,
    begin,
    recover,
    step,
)
from scalelab.errors import Unavailable

_RECORDS_MAX = 3
_LOOKS_MAX = 100


@dataclass(frozen=True, slots=True)
class Ended:
    """outcome None: nobody could be asked; recovery will end it either way.

    untold: groups that could not be told, still locked. ended_here: this protocol's word was the
    one that took an intent away. refusal: why a group could not lock, if it said so.
    """

    outcome: Outcome | None
    untold: tuple[str, ...] = ()
    ended_here: bool = False
    refusal: Refused | None = None


@dataclass(slots=True)
class _Parts:
    """intents: by participant; none of a transaction that only reads. checks: what to prepare."""

    tx: str
    intents: Mapping[str, tuple[Intent, ...]]
    checks: Mapping[str, Transaction]
    refusal: Refused | None = None
    ended_here: bool = False


def commit(tx: str, work: Workspace) -> Protocol[Ended]:
    """Commit what `work` holds, everywhere or nowhere (C1). Raises TooLarge: nothing was asked."""
    keys = work.keys_by_participant()
    if not keys or (not work.writes and work.looks == 1 and len(keys) == 1):
        return Ended(Outcome.COMMIT)  # one look at one group is a snapshot by itself
    if not work.writes:
        checks = {name: Transaction(wire.unchanged(ours, work.seen)) for name, ours in keys.items()}
        return (yield from _carried_out(_Parts(tx, {}, checks), *begin(checks)))
    made = work.intents(tx)
    if len(made) == 1:
        return (yield from _at_once(next(iter(made.values())), work.seen))
    checks = {name: wire.prepare(ours, work.seen) for name, ours in made.items()}
    return (yield from _carried_out(_Parts(tx, made, checks), *begin(made)))


def settle(met: Intent) -> Protocol[Ended]:
    """End the transaction of an intent that somebody met: by its record, else by an abort (L4).

    A group that does not answer is passed over; the record tells whoever looks there later.
    """
    keys = by_participant(met.keys)
    replies = yield tuple(Call("look", wire.look(ours)) for ours in keys.values())
    made: dict[str, tuple[Intent, ...]] = {}
    for (name, ours), reply in zip(keys.items(), replies, strict=True):
        if isinstance(reply, TransactionDone):
            found = wire.looked(ours, reply).values()
            mine = tuple(one for one in found if isinstance(one, Intent) and one.tx == met.tx)
            made |= {name: mine} if mine else {}
    if not made:
        return Ended(None)
    return (yield from _carried_out(_Parts(met.tx, made, {}), *recover(made)))


def read(keys: Iterable[bytes], *, patience: int) -> Protocol[dict[bytes, KeyValue | None]]:
    """Committed values; of keys in one group, at one moment.

    patience: pauses that an undecided transaction is given before it is aborted. Raises
    Unavailable if a group does not answer, code `blocked_by_transactions` if there is no end to
    those that are in the way.
    """
    met_at: dict[str, int] = {}
    wanted = tuple(dict.fromkeys(keys))
    for number in range(_LOOKS_MAX):
        found = yield from _look(wanted)
        met = {one.tx: one for one in found.values() if isinstance(one, Intent)}
        if not met:
            return {k: one for k, one in found.items() if not isinstance(one, Intent)}
        waits = False
        for tx, intent in met.items():
            replies = yield (Call("ask", wire.decision(tx)),)
            decided = wire.known(replies[0]) is not None
            if decided or number - met_at.setdefault(tx, number) >= patience:
                ended = yield from settle(intent)
                waits = waits or bool(ended.untold)
            else:
                waits = True
        if waits:
            yield Pause(number)
    raise Unavailable("transactions are in the way", code="blocked_by_transactions")


def _look(keys: tuple[bytes, ...]) -> Protocol[dict[bytes, KeyValue | Intent | None]]:
    parts = by_participant(keys)
    replies = yield tuple(Call("look", wire.look(ours)) for ours in parts.values())
    found: dict[bytes, KeyValue | Intent | None] = {}
    for (name, ours), reply in zip(parts.items(), replies, strict=True):
        if not isinstance(reply, TransactionDone):
            raise Unavailable(f"{name} did not answer")
        found |= wire.looked(ours, reply)
    return found


def _at_once(ours: tuple[Intent, ...], seen: Mapping[bytes, int]) -> Protocol[Ended]:
    """One group can do all of it by one command: no intents, no record."""
    (reply,) = yield (Call("commit", wire.at_once(ours, seen)),)
    match reply:
        case None:
            return Ended(None)
        case Refused():
            return Ended(Outcome.ABORT, refusal=reply)
        case TransactionDone():
            return Ended(Outcome.COMMIT if reply.succeeded else Outcome.ABORT)


def _carried_out(
    parts: _Parts, state: Coordination, effects: tuple[Effect, ...]
) -> Protocol[Ended]:
    """Carry out what the coordinator wants, and tell it how that went, until it wants no more."""
    for asked in count(1):
        wanted = [(effect, call) for effect in effects if (call := _call(parts, effect))]
        if not wanted:
            break
        replies = yield tuple(call for _, call in wanted)
        events = [
            event
            for (effect, _), reply in zip(wanted, replies, strict=True)
            if (event := _event(parts, effect, reply))
        ]
        state, effects = _told(state, events)
        if state.phase is Phase.DECIDING and not effects:
            if asked > _RECORDS_MAX:
                break
            state, effects = step(state, OutOfTime())
    untold = tuple(sorted(state.untold & parts.intents.keys()))
    return Ended(state.outcome, untold, parts.ended_here, parts.refusal)


def _call(parts: _Parts, effect: Effect) -> Call | None:
    match effect:
        case Prepare(name):
            return Call("prepare", parts.checks[name])
        case Record(outcome):
            return Call("record", wire.record(parts.tx, outcome))
        case Finish(name, outcome):
            ours = parts.intents.get(name)  # none of a transaction that only read
            return Call("finish", wire.finish(ours, outcome)) if ours else None
        case Forget():
            return Call("forget", wire.forget(parts.tx))
        case _:
            return None


def _event(parts: _Parts, effect: Effect, reply: Reply) -> Event | None:
    match effect:
        case Prepare(name) if isinstance(reply, TransactionDone):
            yes = Vote.YES if parts.intents else Vote.READ_ONLY
            return Voted(name, yes if reply.succeeded else Vote.NO)
        case Prepare(name) if isinstance(reply, Refused):
            parts.refusal = reply
            return Voted(name, Vote.NO)
        case Prepare():
            return OutOfTime()  # it may lock yet
        case Record(wanted):
            outcome = wire.recorded(reply, wanted)
            return Recorded(outcome) if outcome else None
        case Finish(name) if isinstance(reply, TransactionDone):
            # One that did not succeed found the intents gone: somebody else has told the group.
            parts.ended_here = parts.ended_here or reply.succeeded
            return Acknowledged(name)
        case _:
            return None


def _told(state: Coordination, events: list[Event]) -> tuple[Coordination, tuple[Effect, ...]]:
    """Tell all events, silence last; returns what is wanted then, each once."""
    ordered: dict[Effect, None] = {}
    for event in sorted(events, key=lambda one: isinstance(one, OutOfTime)):
        state, effects = step(state, event)
        ordered.update(dict.fromkeys(effects))
    return state, tuple(ordered)
