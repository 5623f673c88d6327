"""Parsing what a node answers, and what a ring is told."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.errors import CorruptData, InvalidInput
from scalelab.lab.servers import CassandraRing
from scalelab.lab.servers.cassandra_config import NodeConfig, token_of, yaml
from scalelab.lab.servers.cassandra_protocol import Row, parse_error, parse_rows


def result(rows: list[Row], columns: int) -> bytes:
    """The body of a RESULT with rows and without the description of its columns."""
    parts = [struct.pack(">iiii", 2, 0x04, columns, len(rows))]
    for row in rows:
        for cell in row:
            parts.append(struct.pack(">i", -1) if cell is None else struct.pack(">i", len(cell)))
            parts.append(cell or b"")
    return b"".join(parts)


@given(st.lists(st.tuples(st.none() | st.binary(max_size=9), st.binary(max_size=9)), max_size=5))
def test_rows_come_out_as_they_went_in(rows: list[Row]) -> None:
    """Cells of any size, and absent ones."""
    assert parse_rows(result(rows, 2)) == rows


@given(st.data())
def test_a_torn_answer_is_told_at_every_byte(data: st.DataObject) -> None:
    """No prefix of an answer passes for a whole one."""
    body = result([(b"one", b"two"), (b"three", None)], 2)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(CorruptData):
        parse_rows(body[:cut])


def test_an_error_says_what_the_node_said() -> None:
    """Code and words."""
    body = struct.pack(">iH", 0x1000, 4) + b"gone"
    assert "gone (0x1000)" in str(parse_error(body))
    with pytest.raises(CorruptData):
        parse_error(b"\0")


@pytest.mark.parametrize("nodes", [1, 2, 3, 7])
def test_tokens_divide_the_ring_evenly(nodes: int) -> None:
    """Neighbours are equally far apart, and all lie within 64 bits."""
    tokens = [token_of(index, nodes) for index in range(nodes)]
    assert all(-(2**63) < token < 2**63 for token in tokens)
    assert {after - before for before, after in pairwise(tokens)} <= {2**64 // nodes}


def test_a_setting_of_the_ring_wins_over_a_default() -> None:
    """And stands once: a doubled line would be the last one's."""
    settings = {"hinted_handoff_enabled": "false"}
    node = NodeConfig("127.0.0.2", ("127.0.0.1",), 0, 9042, 7000, Path("/data"), settings)
    lines = yaml(node).splitlines()
    assert [line for line in lines if line.startswith("hinted")] == [
        "hinted_handoff_enabled: false"
    ]
    assert '      - seeds: "127.0.0.1:7000"' in lines


@pytest.mark.parametrize("nodes", [0, 10])
def test_a_ring_of_no_nodes_or_too_many_is_refused(nodes: int) -> None:
    """Addresses and memory of a laptop end somewhere."""
    with pytest.raises(InvalidInput):
        CassandraRing(nodes=nodes)
