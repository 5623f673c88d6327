"""How a command ends: documented exit codes, one sentence for people, one document for programs.

Standard output carries the answer and nothing else: tables for people, or exactly one JSON
document with `--json`. Progress and errors go to standard error.
"""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any, cast

from scalelab.errors import ScalelabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Exit(IntEnum):
    """Exit codes of every command; the help text and the docs quote this table."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    INTERRUPTED = 130


# What it means, for the help text.
EXIT_CODES_HELP = (
    "Exit codes: 0 done or true · 1 failed or false · 2 wrong usage · "
    "3 this machine lacks something · 130 interrupted."
)

# An error with one of these codes means that the machine lacks something, not that a check failed.
MISSING_CODES = frozenset({"capability_missing", "server_missing"})


class CommandFailed(ScalelabError):
    """A command's own end: a sentence with what, where and what to try, and an exit code."""

    code = "command_failed"

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def cause_of(error: BaseException) -> BaseException:
    """The first single exception inside a task group's bundle: the one that ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def exit_code_of(error: BaseException) -> Exit:
    """Map any exception to a documented exit code."""
    error = cause_of(error)
    if isinstance(error, CommandFailed):
        return error.exit_code
    if isinstance(error, ScalelabError):
        if error.stable_code in MISSING_CODES:
            return Exit.MISSING
        return Exit.USAGE if error.stable_code == "invalid_input" else Exit.FAILED
    return Exit.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Exit.FAILED


def sentence_of(error: BaseException) -> str:
    """One line for a person; the class is named where the message alone would say too little."""
    error = cause_of(error)
    text = " ".join(str(error).split())
    if isinstance(error, ScalelabError):
        return text
    return f"{type(error).__name__}: {text} (SCALELAB_DEBUG=1 shows where)"


def emit_json(document: object) -> None:
    """Print the one JSON document of a `--json` command on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def say(message: str) -> None:
    """Print one line on standard output."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


def tell(document: Any, lines_of: Callable[[Any], Iterable[str]], *, as_json: bool) -> None:
    """Print a command's answer on standard output: the document itself, or lines for a person."""
    if as_json:
        emit_json(document)
        return
    for line in lines_of(document):
        say(line)


def note(message: str) -> None:
    """Print one line of progress or advice on standard error."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None
) -> None:
    """Print a table on standard output; a cell is a rich Text or plain text, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    # A pipe has no width: a reader's grep must not meet cells cut at 80 columns.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 240)
    console.print(table)


def human_bytes(size: int | None) -> str:
    """`1536` → `1.5 KiB`; None, an unknown size, is a dash."""
    if size is None:
        return "–"
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
