"""`doctor`: one line for everything that matters here, and the command that fixes a red one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from scalelab.lab.cli.outcome import Exit, emit_json, say, show_table
from scalelab.lab.cli.place import root_of

if TYPE_CHECKING:
    from scalelab.lab.doctor import Line


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Tell what this machine can carry, and the one command that fixes each red line.

    Looks only, installs nothing. Exit code 3 if the main path cannot work here.

    Examples:  ./lab doctor   ·   ./lab doctor --json
    """
    from scalelab.lab.doctor import examine, main_path_works

    lines = examine(root_of(context))
    works = main_path_works(lines)
    if as_json:
        emit_json({"main_path": works, "lines": [asdict(line) for line in lines]})
    else:
        _show(lines, works=works)
    if not works:
        raise typer.Exit(Exit.MISSING)


def _show(lines: list[Line], *, works: bool) -> None:
    from rich.text import Text

    styles = {"ok": "green", "low": "yellow", "missing": "red"}
    rows: list[tuple[str | Text, ...]] = []
    for line in lines:
        good = line.verdict == "ok"
        style = styles[line.verdict] if line.required or good else "yellow"
        closed = "" if good else line.closes
        rows.append(
            (Text(line.verdict, style=style), line.name, line.found, closed, Text(line.fix, "bold"))
        )
    show_table(["", "what", "found", "closed without it", "fix"], rows)
    say("The main path works here." if works else "The main path does not work here yet.")
