"""Rows out of a change stream, without a server."""

from __future__ import annotations

import pytest

from month3_messaging.outbox.capture import Capture
from scalelab.clients.pgoutput import Begin, Commit, Delete, Insert, Relation, Row, Said
from scalelab.errors import CorruptData

OUTBOX = Relation(7, "outbox", ("id", "event_id", "topic", "key", "headers", "value"), ("id",))
OTHER = Relation(8, "orders", ("id", "total"), ("id",))


def inserted(row_id: int, key: str = "k") -> Insert:
    return Insert(7, (str(row_id), "e", "topic", key, '{"ce_id": "e"}', '{"n": 1}'))


def test_rows_are_given_out_when_their_commit_has_come() -> None:
    """C3, then C1 and C2: in commit order, with the position behind the last commit."""
    capture = Capture()
    for message in (
        OUTBOX,
        Begin(10),
        inserted(2),
        inserted(3),
        Commit(11),
        Begin(20),
        inserted(1),
    ):
        capture.add(message)
    assert not capture.is_between
    taken = capture.take()
    assert ([row.id for row in taken.rows], taken.end_lsn) == ([2, 3], 11)
    capture.add(Commit(21))
    taken = capture.take()
    assert ([row.id for row in taken.rows], taken.end_lsn) == ([1], 21)


def test_a_row_is_read_by_the_names_of_its_columns() -> None:
    """A column added to the table, or another order of them, changes nothing."""
    capture = Capture()
    for message in (OUTBOX, inserted(5, "order-1"), Commit(1)):
        capture.add(message)
    [row] = capture.take().rows
    assert (row.topic, row.key, row.headers, row.value) == (
        "topic",
        "order-1",
        {"ce_id": "e"},
        b'{"n": 1}',
    )


def test_other_tables_marks_and_messages_are_no_events() -> None:
    """Only inserts into the outbox count."""
    capture = Capture()
    for message in (
        OUTBOX,
        OTHER,
        Insert(8, ("1", "9")),
        Delete(7, ("1", None, None, None, None, None)),
        Said("x", b"y"),
        Commit(5),
    ):
        capture.add(message)
    assert capture.take().rows == []


@pytest.mark.parametrize(
    "row", [("1", "e", None, "k", "{}", "{}"), ("1", "e", "t", "k", "{}", None)]
)
def test_a_row_without_a_value_is_corrupt(row: Row) -> None:
    """No event is made up."""
    capture = Capture()
    capture.add(OUTBOX)
    with pytest.raises(CorruptData):
        capture.add(Insert(7, row))


def test_a_table_without_the_columns_is_no_outbox() -> None:
    """The publication names the wrong table: said at once, not at the first row."""
    with pytest.raises(CorruptData):
        Capture().add(Relation(7, "outbox", ("id", "topic"), ("id",)))
