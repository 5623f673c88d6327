"""The store's transactions as the data API writes them, and its answers back as values. Pure."""

from __future__ import annotations

import base64
from typing import Any

from month5_kvstore.store import (
    Compare,
    Deleted,
    Found,
    KeyValue,
    Put,
    PutDone,
    Range,
    Step,
    Target,
    Transaction,
    TransactionDone,
)
from scalelab.errors import CorruptData, InvalidInput

_BASE64 = "base64"


def text(part: bytes) -> str:
    """Bytes as a document carries them."""
    return base64.b64encode(part).decode("ascii")


def transaction_document(transaction: Transaction) -> dict[str, Any]:
    """As POST /v1/transaction takes it. Raises InvalidInput for what that has no words for."""
    return {
        "compares": [_compare(one) for one in transaction.compares],
        "then": [_operation(one) for one in transaction.then],
        "otherwise": [_operation(one) for one in transaction.otherwise],
    }


def transaction_done(document: Any) -> TransactionDone:
    """Raises CorruptData for one that the data API never writes."""
    try:
        answers = tuple(_answer(one) for one in document["answers"])
        return TransactionDone(int(document["revision"]), bool(document["succeeded"]), answers)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"this answers no transaction: {error!r}") from error


def item(document: Any) -> KeyValue:
    """A key as the data API tells of it."""

    def part(name: str) -> bytes:
        told = str(document[name])
        return base64.b64decode(told) if document["encoding"] == _BASE64 else told.encode()

    created, modified = int(document["created"]), int(document["modified"])
    version, lease = int(document["version"]), int(document["lease"])
    return KeyValue(part("key"), part("value"), created, modified, version, lease)


def _compare(compare: Compare) -> dict[str, Any]:
    if compare.end is not None:
        raise InvalidInput("the data API compares single keys", field="end")
    document = {
        "key": text(compare.key),
        "target": Target(compare.target).name.lower(),
        "relation": compare.relation.name.lower(),
        "encoding": _BASE64,
    }
    if isinstance(compare.operand, bytes):
        return {**document, "value": text(compare.operand)}
    return {**document, "number": compare.operand}


def _operation(operation: Step) -> dict[str, Any]:
    if isinstance(operation, Transaction):
        raise InvalidInput("the data API has no transaction in a transaction", field="operation")
    if isinstance(operation, Put):
        return {
            "op": "put",
            "key": text(operation.key),
            "value": text(operation.value),
            "lease": operation.lease,
            "keep_value": operation.keep_value,
            "keep_lease": operation.keep_lease,
            "previous": operation.want_previous,
            "encoding": _BASE64,
        }
    interval = operation.interval
    document: dict[str, Any] = {"key": text(interval.start), "encoding": _BASE64}
    if interval.end is not None:
        document["end"] = text(interval.end)
    if not isinstance(operation, Range):
        return {**document, "op": "delete", "previous": operation.want_previous}
    if operation.count_only or operation.keys_only:
        raise InvalidInput("the data API reads whole keys", field="operation")
    numbers = {"revision": operation.revision, "limit": operation.limit}
    return {**document, **numbers, "op": "range"}


def _answer(document: Any) -> PutDone | Deleted | Found:
    revision = int(document["revision"])
    if "items" in document:
        items = tuple(item(one) for one in document["items"])
        return Found(revision, items, int(document["count"]))
    if "deleted" in document:
        gone = tuple(item(one) for one in document["previous"])
        return Deleted(revision, int(document["deleted"]), gone)
    previous = document["previous"]
    return PutDone(revision, None if previous is None else item(previous))
