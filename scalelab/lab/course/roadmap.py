"""The roadmap as data: every promised topic, where it stands, and whether it is done.

`docs/roadmap.toml` is written by people; `docs/roadmap.md` is generated from it. One `[[row]]`:

    id          `A1`, `M3.2`, `P10.4`; unique
    section     heading it stands under
    topic       a few words
    home        folders or months that hold the code, as `m1` or `core`
    status      `done` or `planned`
    code        paths from the root; a done row has at least one and all exist
    tests       the same
    experiment  slugs, empty where the row needs none
    page        path of the page that teaches it
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, cast

from scalelab.errors import InvalidInput

Status = Literal["done", "planned"]
_ID = re.compile(r"^(?:[ADCR]\d{1,2}|[MP]\d{1,2}\.\d{1,2})$")
_KEYS = {"id", "section", "topic", "home", "status", "code", "tests", "experiment", "page"}


@dataclass(frozen=True, slots=True)
class Row:
    """One topic; see the module's docstring for each field."""

    id: str
    section: str
    topic: str
    home: tuple[str, ...]
    status: Status
    code: tuple[str, ...]
    tests: tuple[str, ...]
    experiment: tuple[str, ...]
    page: str


def parse(text: str) -> tuple[Row, ...]:
    """Rows of a TOML document, in its order. Raises InvalidInput that names the row."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"docs/roadmap.toml is not TOML: {error}") from error
    rows = tuple(_row(entry) for entry in cast("list[dict[str, Any]]", raw.get("row", [])))
    ids = [row.id for row in rows]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise InvalidInput(f"docs/roadmap.toml repeats: {', '.join(repeated)}.")
    return rows


def missing_paths(rows: tuple[Row, ...], root: Path) -> list[str]:
    """What a done row promises and the folder does not hold, as `A1: code: month1_x/y.py`."""
    missing: list[str] = []
    for row in rows:
        if row.status != "done":
            continue
        for kind, paths in (("code", row.code), ("tests", row.tests), ("page", (row.page,))):
            if not any(paths):
                missing.append(f"{row.id}: {kind}: nothing is named")
            gone = [path for path in paths if path and not (root / path.split("#")[0]).exists()]
            missing += [f"{row.id}: {kind}: {path}" for path in gone]
    return missing


def render(rows: tuple[Row, ...]) -> str:
    """The Markdown page. Links are relative to `docs/`."""
    done = sum(row.status == "done" for row in rows)
    lines = [
        "# Roadmap: every topic, its code, its test, its experiment, its page",
        "",
        "Generated from [roadmap.toml](roadmap.toml) by `./lab roadmap`; edit that file.",
        "A row is done when real code does it, a test fails if it stops doing it, its experiment",
        "measures it, and a page teaches it.",
        "",
        f"Done: {done} of {len(rows)}.",
    ]
    for section, members in groupby(rows, key=lambda row: row.section):
        lines += [
            "",
            f"## {section}",
            "",
            "| id | topic | home | status | code | tests | experiment | page |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in members]
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    cells = (
        row.id,
        row.topic,
        ", ".join(row.home),
        row.status,
        _links(row.code),
        _links(row.tests),
        ", ".join(f"`{slug}`" for slug in row.experiment) or "–",
        _links((row.page,) if row.page else ()),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _links(paths: tuple[str, ...]) -> str:
    return ", ".join(f"[{path.rstrip('/')}](../{path})" for path in paths) or "–"


def _row(entry: dict[str, Any]) -> Row:
    name = str(entry.get("id", "?"))
    unknown, absent = set(entry) - _KEYS, _KEYS - set(entry)
    if unknown or absent:
        raise InvalidInput(
            f"Row {name}: unknown keys {sorted(unknown)}, missing keys {sorted(absent)}."
        )
    if not _ID.match(name):
        raise InvalidInput(f"Row {name}: not an id of the roadmap.")
    if entry["status"] not in ("done", "planned"):
        raise InvalidInput(f"Row {name}: status is done or planned, not {entry['status']!r}.")
    return Row(
        id=name,
        section=str(entry["section"]),
        topic=str(entry["topic"]),
        home=tuple(entry["home"]),
        status=entry["status"],
        code=tuple(entry["code"]),
        tests=tuple(entry["tests"]),
        experiment=tuple(entry["experiment"]),
        page=str(entry["page"]),
    )
