"""Transactions as documents: what the client writes the node understands, and the other way."""

from __future__ import annotations

import json

import pytest

from month5_kvstore.client.documents import transaction_document, transaction_done
from month5_kvstore.node import GROUPS
from month5_kvstore.node.api_values import TransactionDocument, answer_document, to_transaction
from month5_kvstore.store import (
    Compare,
    Delete,
    Deleted,
    Found,
    Interval,
    KeyValue,
    Put,
    PutDone,
    Range,
    Relation,
    Target,
    Transaction,
    TransactionDone,
)
from scalelab.errors import CorruptData, InvalidInput

ITEM = KeyValue(b"\x00\xff", b"value", 2, 3, 1, 0)
TEXT = KeyValue(b"key", "für".encode(), 2, 3, 1, 0)


def test_a_node_reads_the_transaction_that_the_client_wrote() -> None:
    meant = Transaction(
        (
            Compare(b"a\xff", Target.VALUE, Relation.NOT_EQUAL, b"\x00"),
            Compare(b"b", Target.MODIFIED, Relation.LESS, 7),
        ),
        (Put(b"a\xff", b"\x01"), Put(b"c", b"", want_previous=True), Delete(Interval(b"d"))),
        (Range(Interval(b"a", b"b"), 3, 9), Put(b"k", b"", keep_value=True, keep_lease=True)),
    )
    document = json.loads(json.dumps(transaction_document(meant)))
    assert to_transaction(TransactionDocument.model_validate(document), 0) == meant


def test_a_lease_is_named_as_the_data_api_gave_it() -> None:
    """Number 7 of group 3 is 115 to everybody outside."""
    document = transaction_document(Transaction((), (Put(b"k", b"", lease=7 * GROUPS + 3),)))
    read = to_transaction(TransactionDocument.model_validate(document), 3)
    assert read.then == (Put(b"k", b"", lease=7),)


def test_the_client_reads_the_answer_that_a_node_wrote() -> None:
    done = TransactionDone(
        9,
        True,
        (
            PutDone(9),
            PutDone(9, ITEM),
            Deleted(9, 1, (TEXT,)),
            Found(9, (ITEM, TEXT), 3),
        ),
    )
    assert transaction_done(json.loads(json.dumps(answer_document(done)))) == done


def test_what_the_data_api_has_no_words_for_is_refused() -> None:
    for operation in (
        Range(Interval(b"a"), count_only=True),
        Range(Interval(b"a"), keys_only=True),
        Transaction((), (Range(Interval(b"a")),)),
    ):
        with pytest.raises(InvalidInput):
            transaction_document(Transaction((), (operation,)))
    span = Compare(b"a", Target.VERSION, Relation.EQUAL, 0, b"b")
    with pytest.raises(InvalidInput):
        transaction_document(Transaction((span,)))


def test_an_answer_that_is_none_is_called_so() -> None:
    for answer in ({}, {"answers": [{}], "revision": 1, "succeeded": True}, []):
        with pytest.raises(CorruptData):
            transaction_done(answer)
