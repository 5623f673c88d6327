"""Names that carry their content's hash."""

from __future__ import annotations

from pathlib import Path

import pytest

from month1_caching_gateway.edge import build
from scalelab.errors import InvalidInput


def site(folder: Path, **files: str) -> Path:
    """A source with these static files and one page."""
    (folder / "static").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / "static" / name.replace("_", ".")).write_text(text)
    return folder


def page(folder: Path, text: str) -> Path:
    (folder / "index.html").write_text(text)
    return folder


def test_a_change_reaches_every_name_above_it(tmp_path: Path) -> None:
    """Picture → style sheet → page: the chain gets new names, the neighbour keeps its own."""
    source = page(
        site(tmp_path / "in", a_css="x{background:url(/static/b.json)}", b_json="1", c_js="c"),
        '<link href="/static/a.css"><script src="/static/c.js"></script>',
    )
    first = build(source, tmp_path / "out")
    site(source, b_json="2")
    second = build(source, tmp_path / "out")
    assert first["c.js"] == second["c.js"]
    assert first["a.css"] != second["a.css"]
    text = (tmp_path / "out" / "index.html").read_text()
    assert f'"/static/{second["a.css"]}"' in text
    assert first["a.css"] not in text
    assert second["b.json"] in (tmp_path / "out" / "static" / second["a.css"]).read_text()


def test_earlier_files_stay_for_pages_that_are_open(tmp_path: Path) -> None:
    """Somebody loaded the old page a moment ago."""
    source = page(site(tmp_path / "in", a_css="one"), "/static/a.css")
    first = build(source, tmp_path / "out")
    site(source, a_css="two")
    build(source, tmp_path / "out")
    assert (tmp_path / "out" / "static" / first["a.css"]).read_text() == "one"


def test_the_same_source_changes_nothing(tmp_path: Path) -> None:
    """Modification times stay, and with them nginx's entity tags."""
    source = page(site(tmp_path / "in", a_css="one"), "/static/a.css")
    build(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    build(source, tmp_path / "out")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert {p for p in after if p.is_file() and after[p] != before.get(p)} == set()


@pytest.mark.parametrize(
    ("files", "text", "words"),
    [
        ({}, "/static/missing.css", "missing.css, which does not exist"),
        ({}, "/static/../../secret.txt", "does not exist"),
        ({"a_css": "/static/b.css", "b_css": "/static/a.css"}, "", "refer to each other"),
    ],
    ids=["missing", "outside", "circle"],
)
def test_a_reference_that_leads_nowhere_stops_the_build(
    tmp_path: Path, files: dict[str, str], text: str, words: str
) -> None:
    """Nothing is written: the site that stands stays as it was."""
    (tmp_path / "secret.txt").write_text("secret")
    source = page(site(tmp_path / "in", **files), text)
    with pytest.raises(InvalidInput, match=words):
        build(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
