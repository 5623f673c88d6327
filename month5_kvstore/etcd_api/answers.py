"""What the store answered, as etcd's messages: pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from month5_kvstore.etcd_api.requests import Reading, Trial
from month5_kvstore.etcd_api.schema import Message
from month5_kvstore.store import (
    Deleted,
    Event,
    EventKind,
    Found,
    KeyValue,
    PutDone,
    TransactionDone,
)

Header = Callable[[int], Message]
"""A header for a revision: with the cluster's names outside, the revision alone inside a Txn."""


def item_message(item: KeyValue) -> Message:
    """A KeyValue."""
    return {
        "key": item.key,
        "create_revision": item.created,
        "mod_revision": item.modified,
        "version": item.version,
        "value": item.value,
        "lease": item.lease,
    }


def range_response(found: Found, reading: Reading, header: Header) -> Message:
    """A RangeResponse. count: of all keys of the interval, whatever was left out."""
    items, more = reading.items(found)
    kvs = [item_message(item) for item in items]
    return {"header": header(found.revision), "kvs": kvs, "more": more, "count": found.count}


def put_response(done: PutDone, header: Header) -> Message:
    """A PutResponse."""
    response: Message = {"header": header(done.revision)}
    if done.previous is not None:
        response["prev_kv"] = item_message(done.previous)
    return response


def delete_response(done: Deleted, header: Header) -> Message:
    """A DeleteRangeResponse."""
    gone = [item_message(item) for item in done.previous]
    return {"header": header(done.revision), "deleted": done.count, "prev_kvs": gone}


def txn_response(done: TransactionDone, trial: Trial, header: Header) -> Message:
    """A TxnResponse."""
    return {"header": header(done.revision), **_outcome(done, trial)}


def _outcome(done: TransactionDone, trial: Trial) -> Message:
    left = trial.then if done.succeeded else trial.otherwise
    responses = [_response(*pair) for pair in zip(done.answers, left, strict=True)]
    return {"succeeded": done.succeeded, "responses": responses}


def event_message(event: Event, *, previous: bool) -> Message:
    """An Event. A deleted key has its name and the revision of its end, nothing else."""
    kind = 0 if event.kind == EventKind.PUT else 1
    message: Message = {"type": kind, "kv": item_message(event.item)}
    if previous and event.previous is not None:
        message["prev_kv"] = item_message(event.previous)
    return message


def batches(events: Sequence[Event], size_max: int) -> list[list[Event]]:
    """Events in portions of about `size_max` bytes; a revision is never split."""
    found: list[list[Event]] = []
    size = 0
    revision = 0
    for event in events:
        weight = len(event.item.key) + len(event.item.value) + 64
        if event.previous is not None:
            weight += len(event.previous.value)
        fresh = event.item.modified != revision
        if not found or (fresh and size + weight > size_max):
            found.append([])
            size = 0
        found[-1].append(event)
        size += weight
        revision = event.item.modified
    return found


def _response(
    answer: PutDone | Deleted | Found | TransactionDone, left: Reading | Trial | None
) -> Message:
    match answer:
        case PutDone():
            return {"response_put": put_response(answer, _inner)}
        case Deleted():
            return {"response_delete_range": delete_response(answer, _inner)}
        case Found():
            assert isinstance(left, Reading)
            return {"response_range": range_response(answer, left, _inner)}
        case TransactionDone():
            assert isinstance(left, Trial)
            return {"response_txn": {"header": {}, **_outcome(answer, left)}}


def _inner(revision: int) -> Message:
    return {"revision": revision}
