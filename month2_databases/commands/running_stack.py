"""The running stack as its commands see it: where it is, whom to ask, and how an error is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Annotated, Any

import typer

from scalelab.errors import ScalelabError
from scalelab.lab.cli.outcome import CommandFailed, Exit, exit_code_of
from scalelab.lab.cli.place import root_of

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; what went wrong in one sentence for a person."""
    with in_a_sentence():
        return asyncio.run(work)


@contextlib.contextmanager
def in_a_sentence() -> Generator[None]:
    """What went wrong below as one sentence for a person, with its code and its exit code."""
    try:
        yield
    except CommandFailed:
        raise
    except ScalelabError as error:
        words = f"{error.message} ({error.stable_code})"
        raise CommandFailed(words, exit_code_of(error)) from error


def primaries(context: typer.Context) -> dict[str, str]:
    """The superuser's DSN of every primary."""
    return of_primaries(context, "superusers")


def of_primaries(context: typer.Context, what: str) -> dict[str, str]:
    """Of the description's part `what`, the primaries alone."""
    from month2_databases.topology import PRIMARIES

    told = description(context)[what]
    return {name: told[name] for name in PRIMARIES}


def register(context: typer.Context) -> str:
    """The database that keeps the shard map, and the decisions on transactions over shards."""
    return description(context)["maps"]["shard-map"]


def description(context: typer.Context) -> dict[str, dict[str, str]]:
    """What the running stack noted of itself. Raises CommandFailed if it does not run."""
    from month2_databases.stack import read_description

    try:
        return read_description(folder(context))
    except (OSError, json.JSONDecodeError) as error:
        raise CommandFailed(f"The stack's description cannot be read: {error}.") from error


def folder(context: typer.Context) -> Path:
    """Where the running stack keeps its files. Raises CommandFailed if it does not run."""
    from scalelab.lab.supervisor.control import is_running
    from scalelab.lab.supervisor.state import StackPaths

    paths = StackPaths(root_of(context), "month2")
    if not is_running(paths):
        raise CommandFailed(
            "The stack of month 2 is not running. Try: ./lab up month2.", Exit.USAGE
        )
    return paths.folder
