"""Errors as etcd's clients know them: a gRPC status code and a message that they compare.

The messages are part of the interface: clients retry, give up or start anew by their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from scalelab.errors import InvalidInput, OutcomeUnknown, Retryable, ScalelabError, TooLarge


class Code(IntEnum):
    """Status codes of gRPC, those that are used here."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14


HTTP_STATUS: Mapping[Code, int] = {
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}
"""What the JSON gateway answers for each."""


class EtcdError(ScalelabError):
    """An error on its way to a client of etcd. status: gRPC's code."""

    code = "etcd_error"

    def __init__(self, status: Code, message: str) -> None:
        super().__init__(message)
        self.status = status


def _invalid(message: str) -> tuple[Code, str]:
    return Code.INVALID_ARGUMENT, f"etcdserver: {message}"


EMPTY_KEY = _invalid("key is not provided")
KEY_NOT_FOUND = _invalid("key not found")
VALUE_PROVIDED = _invalid("value is provided")
LEASE_PROVIDED = _invalid("lease is provided")
TOO_MANY_OPERATIONS = _invalid("too many operations in txn request")
DUPLICATE_KEY = _invalid("duplicate key given in txn request")
REQUEST_TOO_LARGE = _invalid("request is too large")
COMPACTED = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
NO_SPACE = (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
LEASE_NOT_FOUND = (Code.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = (Code.FAILED_PRECONDITION, "etcdserver: lease already exists")
LEASE_TTL_TOO_LARGE = (Code.OUT_OF_RANGE, "etcdserver: too large lease TTL")
NO_LEADER = (Code.UNAVAILABLE, "etcdserver: no leader")
TIMED_OUT = (Code.UNAVAILABLE, "etcdserver: request timed out")
AUTH_NOT_ENABLED = (Code.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")

_BY_CODE: Mapping[str, tuple[Code, str]] = {
    "empty_key": EMPTY_KEY,
    "key_not_found": KEY_NOT_FOUND,
    "duplicate_key": DUPLICATE_KEY,
    "key_too_large": REQUEST_TOO_LARGE,
    "value_too_large": REQUEST_TOO_LARGE,
    "too_large": TOO_MANY_OPERATIONS,
    "revision_compacted": COMPACTED,
    "revision_in_future": FUTURE_REVISION,
    "no_space": NO_SPACE,
    "lease_not_found": LEASE_NOT_FOUND,
    "lease_exists": LEASE_EXISTS,
    "no_leader": NO_LEADER,
}


def refuse(error: tuple[Code, str]) -> EtcdError:
    """One of the errors above, to be raised."""
    return EtcdError(*error)


def malformed(why: str) -> EtcdError:
    """The request cannot be read."""
    return EtcdError(Code.INVALID_ARGUMENT, why)


def told(error: ScalelabError) -> EtcdError:
    """An error of ours as etcd's clients hear it. What is our own affair stays untold."""
    if isinstance(error, EtcdError):
        return error
    known = _BY_CODE.get(error.stable_code)
    if known is not None:
        return EtcdError(*known)
    match error:
        case OutcomeUnknown():
            return EtcdError(*TIMED_OUT)
        case Retryable():
            return EtcdError(Code.UNAVAILABLE, f"etcdserver: {error.message}")
        case InvalidInput() | TooLarge():
            return EtcdError(*_invalid(error.message))
        case _:
            return EtcdError(Code.UNKNOWN, "etcdserver: the request failed")
