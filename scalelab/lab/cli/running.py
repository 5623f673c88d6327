"""For a month's commands: the stack that they talk to, and how what went wrong there is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from scalelab.errors import ScalelabError
from scalelab.lab.cli.outcome import CommandFailed, Exit, exit_code_of
from scalelab.lab.cli.place import root_of

if TYPE_CHECKING:
    import typer

    from scalelab.lab.supervisor.state import StackPaths

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; what went wrong in one sentence for a person."""
    with in_a_sentence():
        return asyncio.run(work)


@contextmanager
def in_a_sentence() -> Generator[None]:
    """What went wrong below as one sentence for a person, with its code and its exit code."""
    try:
        yield
    except CommandFailed:
        raise
    except ScalelabError as error:
        words = f"{error.message} ({error.stable_code})"
        raise CommandFailed(words, exit_code_of(error)) from error


def running(context: typer.Context, month: int) -> StackPaths:
    """Where the stack of a month runs. Raises CommandFailed, saying how to start it."""
    from scalelab.lab.supervisor.control import is_running
    from scalelab.lab.supervisor.state import StackPaths

    paths = StackPaths(root_of(context), f"month{month}")
    if not is_running(paths):
        raise CommandFailed(
            f"The stack of month {month} is not running. Try: ./lab up month{month}.", Exit.USAGE
        )
    return paths


def port_of(paths: StackPaths, process: str) -> int:
    """Where a process of the stack listens. Raises CommandFailed if it is not there."""
    from scalelab.lab.supervisor.state import read

    state = read(paths.state)
    for one in state.processes if state else ():
        if one.name == process and one.port:
            return one.port
    raise CommandFailed(f"This stack has no {process}: see ./lab status.", Exit.USAGE)
