"""The `lab` program: core commands, then those the months bring, and one place for errors.

A month's `commands.py`, or its package of that name, holds a Typer app named `app`; its commands
appear at top level. It is imported only when a command is asked for that the core does not have,
or for the help text, so that `./lab status` does not pay for a month. It must be light: heavy
imports belong in functions.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from scalelab.lab.cli import (
    checks_command,
    clean,
    course_commands,
    doctor_command,
    report_command,
    roadmap_command,
    stack_commands,
)
from scalelab.lab.cli.outcome import EXIT_CODES_HELP, Exit, exit_code_of, note, sentence_of
from scalelab.lab.cli.place import Place
from scalelab.lab.course.months import default_root, find_months

_HELP = f"""Six projects and a shop that teach backend scaling by running it, on real servers.

Begin with:

  ./lab doctor      what this machine can carry, and what fixes each red line

  ./lab demo        the shop: starts, sells, breaks one thing, proves the books

  ./lab verify      in a second terminal, while the shop is open: asks every store again

  ./lab up month6   the same shop in the background, for your own curl; ./lab down ends it

What is made stays in this folder (.venv and .lab); ./lab clean lists and removes it.

{EXIT_CODES_HELP}
"""

_START = "Start here"
_STACKS = "Stacks"
_COURSE = "Course"
_HOUSE = "Checks and housekeeping"
_MONTHS = "From the months"


def build_app(root: Path, arguments: list[str], *, with_months: bool) -> typer.Typer:
    """The command line for the clone at `root`; months' commands only if asked for."""
    app = typer.Typer(
        name="lab",
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def top(  # pyright: ignore[reportUnusedFunction] - Typer keeps it
        context: typer.Context,
        folder: Annotated[
            Path | None, typer.Option("--root", hidden=True, help="Work in another clone.")
        ] = None,
    ) -> None:
        context.obj = Place((folder or root).resolve(), tuple(arguments))

    app.command("doctor", rich_help_panel=_START)(doctor_command.doctor)
    app.command("up", rich_help_panel=_STACKS)(stack_commands.up)
    app.command("down", rich_help_panel=_STACKS)(stack_commands.down)
    app.command("status", rich_help_panel=_STACKS)(stack_commands.status)
    app.command("logs", rich_help_panel=_STACKS)(stack_commands.logs)
    app.command("experiment", rich_help_panel=_COURSE)(course_commands.experiment)
    app.command("bench", rich_help_panel=_COURSE)(course_commands.bench)
    app.command("report", rich_help_panel=_COURSE)(report_command.report)
    app.command(
        "test",
        rich_help_panel=_HOUSE,
    )(checks_command.run_tests)
    app.command("clean", rich_help_panel=_HOUSE)(clean.clean)
    app.command("roadmap", hidden=True)(roadmap_command.roadmap)
    if with_months:
        _add_months(app, root)
    return app


def _add_months(app: typer.Typer, root: Path) -> None:
    """Add the commands of every month that has some; one that cannot load is named, not fatal."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for month in find_months(root):
        package = month.folder / "commands" / "__init__.py"
        if not (package.is_file() or (month.folder / "commands.py").is_file()):
            continue
        try:
            module = importlib.import_module(f"{month.package}.commands")
        except Exception as error:  # noqa: BLE001 - a broken month must not take doctor with it
            if os.environ.get("SCALELAB_DEBUG"):
                traceback.print_exc()
            note(f"lab: {month.package}/commands.py cannot be loaded: {sentence_of(error)}")
            continue
        found: typer.Typer = module.app
        for command in found.registered_commands:
            command.rich_help_panel = _panel(command.rich_help_panel)
            app.registered_commands.append(command)
        for group in found.registered_groups:
            group.rich_help_panel = _panel(group.rich_help_panel)
            app.registered_groups.append(group)


def _panel(own: object) -> str:
    return own if isinstance(own, str) else _MONTHS


def _root_in(arguments: list[str]) -> Path:
    """The root before Typer has parsed anything: `--root`, or the folder of this code."""
    for index, word in enumerate(arguments):
        if word == "--root" and index + 1 < len(arguments):
            return Path(arguments[index + 1]).resolve()
        if word.startswith("--root="):
            return Path(word.removeprefix("--root=")).resolve()
        if not word.startswith("-"):
            break
    return default_root()


def _first_word(arguments: list[str]) -> str | None:
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word == "--root":
            skip = True
        elif not word.startswith("-"):
            return word
    return None


def _names(app: typer.Typer) -> set[str]:
    """The words that are commands; a function without a name of its own lends it."""
    named = {command.name or _own_name(command.callback) for command in app.registered_commands}
    return named | {group.name for group in app.registered_groups if group.name}


def _own_name(callback: Callable[..., object] | None) -> str:
    return getattr(callback, "__name__", "").replace("_", "-")


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. Never raises: errors become one sentence."""
    root = _root_in(arguments)
    core = build_app(root, arguments, with_months=False)
    word = _first_word(arguments)
    app = core if word in _names(core) else build_app(root, arguments, with_months=True)
    try:
        result = app(arguments, prog_name="lab", standalone_mode=False)
    except typer.TyperException as error:
        # No command at all has printed the help, which is its own message.
        text = error.format_message().strip()
        command = f"{word} " if word in _names(app) else ""
        if text:
            note(f"lab: {text} Try: ./lab {command}--help")
        return error.exit_code
    except typer.Abort:
        note("lab: stopped; nothing was changed.")
        return 1
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the edge of the program
        if os.environ.get("SCALELAB_DEBUG"):
            traceback.print_exc()
        note(
            "lab: interrupted."
            if isinstance(error, KeyboardInterrupt)
            else f"lab: {sentence_of(error)}"
        )
        return int(exit_code_of(error))
    if result == Exit.INTERRUPTED:
        # Typer has made a Ctrl-C an exit code already.
        note("lab: interrupted.")
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry of `python -m scalelab` and of `./lab`."""
    sys.exit(run(sys.argv[1:]))
