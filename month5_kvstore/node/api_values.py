"""Commands and answers as JSON. Keys and values are bytes; text stands as it is, else as base64.

One `encoding` an object says how its keys and values are written: `utf-8` (default) or `base64`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from month5_kvstore.node.errors import WrongGroup
from month5_kvstore.node.placement import private_id
from month5_kvstore.store import (
    REFUSALS,
    Answer,
    Compare,
    Delete,
    Deleted,
    Event,
    EventKind,
    Found,
    Interval,
    KeyValue,
    Operation,
    Put,
    PutDone,
    Range,
    Refused,
    Relation,
    RevisionCompacted,
    Target,
    Transaction,
    TransactionDone,
)
from scalelab.errors import InvalidInput, ScalelabError

Encoding = Literal["utf-8", "base64"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CompareDocument(_Document):
    """`value` goes with target value, `number` with all others."""

    key: str
    target: Literal["value", "version", "created", "modified", "lease"]
    relation: Literal["equal", "not_equal", "less", "greater"] = "equal"
    value: str | None = None
    number: int | None = None
    encoding: Encoding = "utf-8"


class PutDocument(_Document):
    """lease: as the API gave it, of the same group."""

    op: Literal["put"]
    key: str
    value: str = ""
    lease: int = 0
    keep_value: bool = False
    keep_lease: bool = False
    previous: bool = False
    encoding: Encoding = "utf-8"


class DeleteDocument(_Document):
    """A key, or all from `key` to before `end`, or all that begin with `key`."""

    op: Literal["delete"]
    key: str
    end: str | None = None
    prefix: bool = False
    previous: bool = False
    encoding: Encoding = "utf-8"


class RangeDocument(_Document):
    """As `DeleteDocument`, to be read."""

    op: Literal["range"]
    key: str
    end: str | None = None
    prefix: bool = False
    revision: int = 0
    limit: int = 0
    encoding: Encoding = "utf-8"


OperationDocument = Annotated[
    PutDocument | DeleteDocument | RangeDocument, Field(discriminator="op")
]


class TransactionDocument(_Document):
    """If all comparisons hold, `then`, else `otherwise`. All keys must lie in one group."""

    compares: list[CompareDocument] = []
    then: list[OperationDocument] = []
    otherwise: list[OperationDocument] = []


def to_transaction(document: TransactionDocument, group: int) -> Transaction:
    """Raises InvalidInput, WrongGroup for a lease of another group."""
    return Transaction(
        tuple(_to_compare(one) for one in document.compares),
        tuple(_to_operation(one, group) for one in document.then),
        tuple(_to_operation(one, group) for one in document.otherwise),
    )


def document_keys(document: TransactionDocument) -> list[bytes]:
    """Every key it names; of an interval where it starts."""
    every = (*document.compares, *document.then, *document.otherwise)
    return [decode(one.key, one.encoding, "key") for one in every]


def decode(text: str, encoding: Encoding, field: str) -> bytes:
    """Bytes of a key or value. Raises InvalidInput."""
    if encoding == "utf-8":
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidInput("this is not base64", field=field) from error


def interval_of(key: bytes, end: bytes | None, *, prefix: bool) -> Interval:
    """Raises InvalidInput if both ways of naming an end are used."""
    if prefix and end is not None:
        raise InvalidInput("give an end or ask for a prefix, not both", field="end")
    return Interval.prefix(key) if prefix else Interval(key, end)


def lease_of(public: int, group: int) -> int:
    """The group's own number of a lease. Raises WrongGroup."""
    if not public:
        return 0
    number, of = private_id(public)
    if of != group or number < 1:
        raise WrongGroup("this lease is of another group than the key", field="lease")
    return number


def item_document(item: KeyValue) -> dict[str, Any]:
    """A key as callers see it, with the group's own lease number."""
    encoding, (key, value) = _texts(item.key, item.value)
    return {
        "key": key,
        "value": value,
        "encoding": encoding,
        "created": item.created,
        "modified": item.modified,
        "version": item.version,
        "lease": item.lease,
    }


def event_document(event: Event) -> dict[str, Any]:
    """One change."""
    kind = "put" if event.kind == EventKind.PUT else "delete"
    previous = None if event.previous is None else item_document(event.previous)
    return {"kind": kind, "item": item_document(event.item), "previous": previous}


def answer_document(answer: PutDone | Deleted | Found | TransactionDone) -> dict[str, Any]:
    """What was done or found."""
    match answer:
        case PutDone(revision, previous):
            told = None if previous is None else item_document(previous)
            return {"revision": revision, "previous": told}
        case Deleted(revision, count, gone):
            return {"revision": revision, "deleted": count, "previous": _items(gone)}
        case Found(revision, items, count):
            return {
                "revision": revision,
                "items": _items(items),
                "count": count,
                "more": answer.more,
            }
        case TransactionDone(revision, succeeded, answers):
            return {
                "revision": revision,
                "succeeded": succeeded,
                "answers": [answer_document(one) for one in answers],
            }


def accepted(answer: Answer) -> Answer:
    """The answer, unless it is a refusal: then that is raised as the error it stands for."""
    if not isinstance(answer, Refused):
        return answer
    if answer.code == RevisionCompacted.code:
        raise RevisionCompacted(0, answer.detail)
    raise REFUSALS.get(answer.code, ScalelabError)(answer.message, code=answer.code)


def _items(items: Sequence[KeyValue]) -> list[dict[str, Any]]:
    return [item_document(item) for item in items]


def _texts(*parts: bytes) -> tuple[Encoding, list[str]]:
    try:
        return "utf-8", [part.decode() for part in parts]
    except UnicodeDecodeError:
        return "base64", [base64.b64encode(part).decode() for part in parts]


def _to_compare(document: CompareDocument) -> Compare:
    key = decode(document.key, document.encoding, "key")
    target, relation = Target[document.target.upper()], Relation[document.relation.upper()]
    operand: bytes | int | None = document.number
    if target is Target.VALUE and document.value is not None:
        operand = decode(document.value, document.encoding, "value")
    if operand is None or isinstance(operand, int) is (target is Target.VALUE):
        raise InvalidInput("`value` goes with target value, `number` with others", field="target")
    return Compare(key, target, relation, operand)


def _to_operation(document: PutDocument | DeleteDocument | RangeDocument, group: int) -> Operation:
    key = decode(document.key, document.encoding, "key")
    if isinstance(document, PutDocument):
        return Put(
            key,
            decode(document.value, document.encoding, "value"),
            lease_of(document.lease, group),
            document.keep_value,
            document.keep_lease,
            document.previous,
        )
    end = None if document.end is None else decode(document.end, document.encoding, "end")
    interval = interval_of(key, end, prefix=document.prefix)
    if isinstance(document, DeleteDocument):
        return Delete(interval, document.previous)
    return Range(interval, document.revision, document.limit)
