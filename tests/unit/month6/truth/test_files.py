"""The witnesses that are files: read as they are, refused when they are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from month6_capstone.load import Attempt, ClientLog
from month6_capstone.payments.book import Line, LineKind, encode
from month6_capstone.truth import read_description
from month6_capstone.truth.files import order_id_in, read_book, read_client_log
from month6_capstone.truth.records import BookLine
from scalelab.errors import CorruptData, InvalidInput


def test_the_providers_own_lines_are_read(tmp_path: Path) -> None:
    """As its book writes them; an unfinished last line is left out."""
    book = tmp_path / "book.jsonl"
    line = Line(1, "t", LineKind.CHARGE, "k", "o", "ch", 5, "EUR")
    book.write_bytes(encode(line) + encode(line)[:20])
    assert read_book(book) == (BookLine(1, "charge", "k", "o", "ch", 5, "EUR"),)
    assert read_book(tmp_path / "none") == ()


def test_the_shoppers_own_log_is_read(tmp_path: Path) -> None:
    """As the load writes it."""
    path = tmp_path / "client.jsonl"
    with ClientLog(path) as log:
        log.write(Attempt("t", "ada", "k", 1, "unknown", None, None, "sha"))
    attempts = read_client_log(path)
    assert attempts is not None
    assert (attempts[0].user_id, attempts[0].outcome) == ("ada", "unknown")
    assert read_client_log(None) is None


@pytest.mark.parametrize("rubbish", ["{", "[]", "{}", '"x"'])
def test_a_damaged_line_is_named(tmp_path: Path, rubbish: str) -> None:
    """A verdict on half a witness would be worth nothing."""
    path = tmp_path / "book.jsonl"
    path.write_text(rubbish + "\n")
    with pytest.raises(CorruptData, match="line 1"):
        read_book(path)


def test_an_answer_names_its_order_or_none() -> None:
    """Whatever the stored body is."""
    assert order_id_in('{"order_id": "o"}') == "o"
    assert [order_id_in(body) for body in ("", "[]", "{}", '{"order_id": 5}')] == [None] * 4


def test_a_description_says_where_the_stores_are(tmp_path: Path) -> None:
    """The file of a running shop; anything else is refused."""
    path = tmp_path / "shop.json"
    document = {
        "shards": {"shard-0": "dsn"},
        "payments": "p",
        "inventory": "i",
        "kafka_bootstrap": "k:1",
        "book_path": "/b",
    }
    path.write_text(json.dumps(document))
    settings = read_description(path, client_log=tmp_path / "log")
    assert (settings.shards, settings.book_path) == ({"shard-0": "dsn"}, Path("/b"))
    for broken in ("", "{}", "[]"):
        path.write_text(broken)
        with pytest.raises(InvalidInput, match="does not describe a shop"):
            read_description(path)
