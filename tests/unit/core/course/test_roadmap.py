"""The roadmap: strict in, generated out, done means that it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalelab.errors import InvalidInput
from scalelab.lab.course.roadmap import missing_paths, parse, render

ROW = """
[[row]]
id = "A1"
section = "Scaling"
topic = "CDN | edge"
home = ["m1"]
status = "done"
code = ["edge.py"]
tests = ["test_edge.py"]
experiment = ["cdn-edge-cache"]
page = "page.md#cdn"
"""


def test_a_row_reads_back() -> None:
    """Every field arrives; lists become tuples."""
    (row,) = parse(ROW)
    assert (row.id, row.home, row.status, row.page) == ("A1", ("m1",), "done", "page.md#cdn")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('id = "A1"', 'id = "Z9"', "not an id"),
        ('status = "done"', 'status = "soon"', "planned"),
        ('page = "page.md#cdn"', "", "missing"),
        ('home = ["m1"]', 'home = ["m1"]\nowner = "x"', "owner"),
        ("[[row]]", "[[row", "not TOML"),
    ],
)
def test_a_wrong_row_is_named(old: str, new: str, says: str) -> None:
    """The message says which row and what about it."""
    with pytest.raises(InvalidInput, match=says):
        parse(ROW.replace(old, new))


def test_a_repeated_id_is_refused() -> None:
    """One row an id."""
    with pytest.raises(InvalidInput, match="repeats: A1"):
        parse(ROW + ROW)


def test_a_done_row_needs_its_files(tmp_path: Path) -> None:
    """Each missing path is listed; with all there, nothing is; a planned row promises nothing."""
    rows = parse(ROW)
    assert missing_paths(rows, tmp_path) == [
        "A1: code: edge.py",
        "A1: tests: test_edge.py",
        "A1: page: page.md#cdn",
    ]
    for name in ("edge.py", "test_edge.py", "page.md"):
        (tmp_path / name).touch()
    assert missing_paths(rows, tmp_path) == []
    assert missing_paths(parse(ROW.replace('"done"', '"planned"')), Path("/nonexistent")) == []


def test_a_done_row_that_names_nothing_is_not_done(tmp_path: Path) -> None:
    """`done` with empty lists is a claim without evidence."""
    rows = parse(ROW.replace('code = ["edge.py"]', "code = []"))
    assert "A1: code: nothing is named" in missing_paths(rows, tmp_path)


def test_the_page_links_and_escapes() -> None:
    """Links are relative to docs/, a bar in a topic does not end its cell."""
    page = render(parse(ROW))
    assert "[edge.py](../edge.py)" in page
    assert "CDN \\| edge" in page
    assert "Done: 1 of 1." in page
