"""The running stack as its commands see it: where it is and whom to ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed
from scalelab.lab.cli.running import running

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


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
    return running(context, 2).folder
