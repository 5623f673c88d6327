"""PostgreSQL's errors in the words of the one error tree.

Where a connection is lost decides what it means:

    before or inside a transaction   nothing is committed                    -> Unavailable
    while COMMIT was under way       nobody here can know                    -> OutcomeUnknown
    in a bare statement that writes  it may have committed on its own        -> OutcomeUnknown
    in a bare statement that reads   nothing can have changed                -> Unavailable

A server that answers with an error has rolled the transaction back, so those errors all mean
"nothing was changed". The driver's exception stays reachable as `__cause__`.
Source: PostgreSQL documentation, appendix A (SQLSTATE codes).
"""

from __future__ import annotations

from enum import Enum

import psycopg
import psycopg_pool

from scalelab.errors import (
    Conflict,
    DeadlineExceeded,
    OutcomeUnknown,
    Overloaded,
    ScalelabError,
    Unavailable,
)


class SerializationFailure(Conflict):
    """The server rolled this transaction back to keep another correct. Run it again, whole."""

    code = "serialization_failure"
    retryable = True


class Stage(Enum):
    """How far a unit of work had come when its connection failed."""

    READING = "reading"
    WRITING_ALONE = "writing alone"
    IN_TRANSACTION = "in transaction"
    COMMITTING = "committing"

    @property
    def may_have_committed(self) -> bool:
        """Whether a lost connection leaves it open what the server did."""
        return self in (Stage.WRITING_ALONE, Stage.COMMITTING)


_RUN_AGAIN = {
    "40001": "serialization_failure",
    "40P01": "serialization_failure",
    "55P03": "lock_timeout",
}
_BROKEN_RULES = {
    "23505": "unique_violation",
    "23503": "foreign_key_violation",
    "23514": "check_violation",
    "23502": "not_null_violation",
    "23P01": "exclusion_violation",
}
# 25P03: the server ended the session because its transaction was idle for too long.
_GOING_AWAY = frozenset({"25P03", "57P01", "57P02", "57P03", "57P05"})
_STATEMENT_TIMEOUT = "57014"
_READ_ONLY = "25006"
_TOO_MANY_CONNECTIONS = "53300"


def translate(error: Exception, *, stage: Stage, name: str) -> ScalelabError:
    """The error of our tree for a psycopg or pool `error` met in `stage` on database `name`."""
    if isinstance(error, psycopg_pool.TooManyRequests):
        return Overloaded(f"too many callers wait for a connection to {name}", code="pool_queue")
    if isinstance(error, (psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed)):
        return Unavailable(f"no connection to {name}: {error}", code="database_unavailable")
    if not isinstance(error, psycopg.Error):
        return ScalelabError(f"{name}: {error}")
    if error.sqlstate is not None:
        return _translate_state(error, error.sqlstate, stage, name)
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return lost(stage, name, str(error))
    return ScalelabError(f"{name} refused a statement: {error}", code="database_error")


def no_connection(name: str, lent: int, pool_max: int) -> Unavailable:
    """The error for a caller that waited in vain while `lent` of `pool_max` were with others."""
    if lent >= pool_max:
        return Unavailable(f"all {pool_max} connections to {name} are lent", code="pool_exhausted")
    return Unavailable(f"no connection to {name} can be had", code="database_unavailable")


def lost(stage: Stage, name: str, evidence: str) -> ScalelabError:
    """The error for a connection that broke in `stage`."""
    detail = " ".join(evidence.split())
    if stage.may_have_committed:
        return OutcomeUnknown(f"the connection to {name} broke while {stage.value}: {detail}")
    return Unavailable(
        f"the connection to {name} broke while {stage.value}: {detail}", code="database_unavailable"
    )


def out_of_time(stage: Stage, name: str, timeout_s: float) -> ScalelabError:
    """The error for a unit of work that was cut off after `timeout_s` seconds."""
    if stage.may_have_committed:
        return OutcomeUnknown(f"{name} did not answer within {timeout_s} s while {stage.value}")
    return DeadlineExceeded(f"{name} did not answer within {timeout_s} s while {stage.value}")


def _translate_state(error: psycopg.Error, state: str, stage: Stage, name: str) -> ScalelabError:
    said = error.diag.message_primary or str(error)
    if state in _RUN_AGAIN:
        return SerializationFailure(f"{name}: {said}", code=_RUN_AGAIN[state])
    if state in _BROKEN_RULES:
        return Conflict(f"{name}: {said}", code=_BROKEN_RULES[state])
    if state == _STATEMENT_TIMEOUT:
        return DeadlineExceeded(f"{name}: {said}")
    if state == _READ_ONLY:
        return Unavailable(f"{name} takes no writes: {said}", code="database_read_only")
    if state == _TOO_MANY_CONNECTIONS:
        return Unavailable(f"{name}: {said}", code="database_unavailable")
    if state in _GOING_AWAY or state.startswith("08"):
        return lost(stage, name, said)
    if state.startswith("53"):
        return Unavailable(f"{name} is out of resources: {said}", code="database_full")
    return ScalelabError(f"{name} refused a statement: {said}", code="database_error")
