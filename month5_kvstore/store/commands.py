"""What can be asked of the store, what it answers, and the envelope that goes through the log.

All are plain values, written by `wire.py`. Field order and type numbers stand in logs and
snapshots: new fields go to the end, with a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from month5_kvstore.store.values import Interval, KeyValue


class Target(IntEnum):
    """What a comparison looks at. A key that is not there has 0 for all numbers, and no value."""

    VALUE = 1
    VERSION = 2
    CREATED = 3
    MODIFIED = 4
    LEASE = 5


class Relation(IntEnum):
    """How it must stand to the operand."""

    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    GREATER = 4


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on one key, or on all of an `Interval(key, end)`.

    operand: bytes for VALUE, else an integer.
    """

    key: bytes
    target: Target
    relation: Relation
    operand: bytes | int
    end: bytes | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Read. revision 0: the newest. limit 0: all. count_only, keys_only: leave out the rest."""

    interval: Interval
    revision: int = 0
    limit: int = 0
    count_only: bool = False
    keys_only: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """Write one key. keep_value, keep_lease: those of the key, which must be there."""

    key: bytes
    value: bytes
    lease: int = 0
    keep_value: bool = False
    keep_lease: bool = False
    want_previous: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete all keys of an interval."""

    interval: Interval
    want_previous: bool = False


Operation = Range | Put | Delete


@dataclass(frozen=True, slots=True)
class Transaction:
    """If all comparisons hold, `then`, else `otherwise`; whole, at one revision.

    Of one inside another, too, the comparisons look at what was there before the outermost one.
    """

    compares: tuple[Compare, ...] = ()
    then: tuple[Step, ...] = ()
    otherwise: tuple[Step, ...] = ()


Step = Operation | Transaction
"""What a transaction is made of."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease. id 0: the store chooses one. ttl_ms: > 0, in time of the log."""

    ttl_ms: int
    id: int = 0


@dataclass(frozen=True, slots=True)
class Revoke:
    """End a lease and delete the keys that hang on it."""

    id: int


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A lease begins anew."""

    id: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Forget what was superseded before `revision`."""

    revision: int


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Begin to remember answers for one client. ttl_ms: kept so long after its last command."""

    ttl_ms: int


@dataclass(frozen=True, slots=True)
class SetQuota:
    """bytes: how large the store may become. In the log, since replicas must agree on it."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Disarm:
    """End the alarm of a full store. It comes back by itself if there is still no space."""


@dataclass(frozen=True, slots=True)
class PassTime:
    """Nothing but the envelope's time: what is due expires."""


Command = (
    Put
    | Delete
    | Transaction
    | Grant
    | Revoke
    | KeepAlive
    | Compact
    | OpenSession
    | SetQuota
    | Disarm
    | PassTime
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A command in the log. time_ms: the leader's log time. session 0: none, not remembered.

    sequence: of the command in its session, >= 1. acknowledged_below: the client has all answers
    below; the store may forget them.
    """

    time_ms: int
    command: Command
    session: int = 0
    sequence: int = 0
    acknowledged_below: int = 0


@dataclass(frozen=True, slots=True)
class PutDone:
    """revision: of the change. previous: if asked for and there."""

    revision: int
    previous: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """count: keys deleted. previous: if asked for. revision: unchanged if nothing was deleted."""

    revision: int
    count: int
    previous: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """revision: the store's newest. count: all keys of the interval; items: up to the limit."""

    revision: int
    items: tuple[KeyValue, ...]
    count: int

    @property
    def more(self) -> bool:
        """Whether the limit left some out."""
        return len(self.items) < self.count


@dataclass(frozen=True, slots=True)
class TransactionDone:
    """succeeded: all comparisons held. answers: one for each step of the branch that was taken."""

    revision: int
    succeeded: bool
    answers: tuple[PutDone | Deleted | Found | TransactionDone, ...]


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """A lease that was granted or kept alive. ttl_ms: left from now on."""

    revision: int
    id: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The session's id, never used before in this group."""

    revision: int
    id: int


@dataclass(frozen=True, slots=True)
class Done:
    """Carried out; there is nothing to tell but the revision."""

    revision: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Not carried out; nothing changed. code: of an error in errors.py. detail: for a compacted
    revision the oldest one kept, else 0."""

    code: str
    message: str
    detail: int = 0


Answer = PutDone | Deleted | Found | TransactionDone | LeaseAnswer | SessionOpened | Done | Refused
