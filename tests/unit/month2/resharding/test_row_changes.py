"""Claims about decoded messages and the changes they become (pure)."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.resharding.row_changes import Collector, Patch, Remove, RemoveAll, Upsert
from scalelab.clients import pgoutput
from scalelab.clients.pgoutput import UNCHANGED, Relation, decode
from scalelab.errors import CorruptData

TABLE = Relation(7, "t", ("id", "slot", "v"), ("id",))


def described() -> Collector:
    collector = Collector([3, 4], {"t": "slot"})
    collector.add(TABLE)
    return collector


def in_transaction(collector: Collector, *messages: pgoutput.Message) -> None:
    collector.add(pgoutput.Begin(1))
    for message in messages:
        collector.add(message)
    collector.add(pgoutput.Commit(9))


@given(
    history=st.lists(
        st.tuples(
            st.sampled_from(["put", "delete", "rename"]),
            st.integers(0, 5),
            st.integers(0, 5),
            st.sampled_from(["3", "4", "5", "6"]),
        ),
        max_size=40,
    )
)
def test_a_copy_that_applies_the_changes_is_the_source(
    history: list[tuple[str, int, int, str]],
) -> None:
    """I1, I2: against a dictionary; a key's slot is fixed while its row lives."""
    source: dict[str, tuple[str, str]] = {}
    collector = described()
    for step, (kind, first, second, slot) in enumerate(history):
        key, other = str(first), str(second)
        if kind == "put" and key in source:
            source[key] = (source[key][0], str(step))
            new = (key, *source[key])
            in_transaction(collector, pgoutput.Update(7, None, new))
        elif kind == "put":
            source[key] = (slot, str(step))
            in_transaction(collector, pgoutput.Insert(7, (key, *source[key])))
        elif kind == "delete" and key in source:
            del source[key]
            in_transaction(collector, pgoutput.Delete(7, (key, None, None)))
        elif kind == "rename" and key in source and other not in source:
            source[other] = source.pop(key)
            old, new = (key, None, None), (other, *source[other])
            in_transaction(collector, pgoutput.Update(7, old, new))
    copy = {"mine": ("9", "of the target")}
    for change in collector.take().changes:
        if isinstance(change, Upsert):
            values = dict(change.values)
            copy[str(values["id"])] = (str(values["slot"]), str(values["v"]))
        elif isinstance(change, Remove):
            row = copy.get(str(change.key[0][1]))
            if row is not None and row[0] in ("3", "4"):
                del copy[str(change.key[0][1])]
    wanted = {key: row for key, row in source.items() if row[0] in ("3", "4")}
    assert copy == {**wanted, "mine": ("9", "of the target")}


def test_a_transaction_is_taken_whole_or_not_at_all() -> None:
    """I3: before its commit nothing of it is there."""
    collector = described()
    collector.add(pgoutput.Begin(1))
    collector.add(pgoutput.Insert(7, ("1", "3", "x")))
    collector.add(pgoutput.Said("reshard", b"mark"))
    assert (collector.take().changes, collector.has_said(b"mark")) == ((), False)
    collector.add(pgoutput.Commit(9))
    assert collector.has_said(b"mark")
    batch = collector.take()
    assert (len(batch.changes), batch.end_lsn, batch.transactions) == (1, 9, 1)
    assert not collector.has_said(b"mark")


def test_a_transaction_that_was_cut_off_is_forgotten_when_it_comes_again() -> None:
    """After a break the stream begins the transaction anew."""
    collector = described()
    collector.add(pgoutput.Begin(1))
    collector.add(pgoutput.Insert(7, ("1", "3", "x")))
    in_transaction(collector, pgoutput.Insert(7, ("1", "3", "x")))
    assert len(collector.take().changes) == 1


def test_rows_of_other_slots_are_left_out() -> None:
    """Where the log shows their slot; a bare key is passed on for the target to judge."""
    collector = described()
    in_transaction(
        collector,
        pgoutput.Insert(7, ("1", "5", "x")),
        pgoutput.Update(7, None, ("1", "5", "y")),
        pgoutput.Delete(7, ("1", "5", "y")),
        pgoutput.Delete(7, ("2", None, None)),
    )
    assert collector.take().changes == (Remove("t", (("id", "2"),)),)


def test_a_large_value_that_was_not_touched_is_not_written() -> None:
    """The log does not have it."""
    collector = described()
    in_transaction(collector, pgoutput.Update(7, None, ("1", "3", UNCHANGED)))
    assert collector.take().changes == (Patch("t", (("id", "1"),), (("id", "1"), ("slot", "3"))),)


def test_a_truncated_table_loses_the_moving_rows() -> None:
    """All of them, and only of tables that move."""
    collector = described()
    in_transaction(collector, pgoutput.Truncate((7,)))
    assert collector.take().changes == (RemoveAll("t"),)


def test_rows_of_an_undescribed_table_are_refused() -> None:
    """Guessing its columns would put values into the wrong ones."""
    with pytest.raises(CorruptData):
        in_transaction(described(), pgoutput.Insert(8, ("1",)))


def row(*values: str | None) -> bytes:
    parts = [
        b"n" if value is None else b"t" + struct.pack(">I", len(value.encode())) + value.encode()
        for value in values
    ]
    return struct.pack(">H", len(values)) + b"".join(parts)


def test_messages_are_read_as_the_documentation_lays_them_out() -> None:
    """One of each kind, by hand."""
    relation = b"R" + struct.pack(">I", 7) + b"public\0t\0d" + struct.pack(">H", 2)
    relation += b"\1id\0" + struct.pack(">Ii", 25, -1) + b"\0slot\0" + struct.pack(">Ii", 21, -1)
    assert decode(relation) == Relation(7, "t", ("id", "slot"), ("id",))
    assert decode(b"B" + struct.pack(">QQI", 5, 0, 1)) == pgoutput.Begin(5)
    assert decode(b"C\0" + struct.pack(">QQQ", 5, 6, 0)) == pgoutput.Commit(6)
    seven = struct.pack(">I", 7)
    assert decode(b"I" + seven + b"N" + row("ä", None)) == pgoutput.Insert(7, ("ä", None))
    assert decode(b"U" + seven + b"N" + row("1")) == pgoutput.Update(7, None, ("1",))
    assert decode(b"U" + seven + b"K" + row("0") + b"N" + row("1")) == pgoutput.Update(
        7, ("0",), ("1",)
    )
    assert decode(b"U" + seven + b"N\0\1u") == pgoutput.Update(7, None, (UNCHANGED,))
    assert decode(b"D" + seven + b"K" + row("1", None)) == pgoutput.Delete(7, ("1", None))
    assert decode(b"T" + struct.pack(">IBII", 2, 0, 7, 8)) == pgoutput.Truncate((7, 8))
    said = b"M\1" + struct.pack(">Q", 5) + b"reshard\0" + struct.pack(">I", 2) + b"m1"
    assert decode(said) == pgoutput.Said("reshard", b"m1")
    assert decode(b"Y....") == pgoutput.Other("Y")


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_message_or_corrupt_data(data: bytes) -> None:
    """Nothing else comes out."""
    with contextlib.suppress(CorruptData):
        decode(data)
