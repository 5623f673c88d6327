"""The root folder a command works in: handed down from the top of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import typer


@dataclass(frozen=True, slots=True)
class Place:
    """root: the clone, an absolute path; `.lab/`, months, tests and docs are below it.

    arguments: the command line as typed, for a command that hands a part of it on.
    """

    root: Path
    arguments: tuple[str, ...]


def root_of(context: typer.Context) -> Path:
    """The root folder of this invocation. Months' commands use it too."""
    return cast("Place", context.obj).root


def arguments_of(context: typer.Context) -> list[str]:
    """The words after `lab`, as typed."""
    return list(cast("Place", context.obj).arguments)
