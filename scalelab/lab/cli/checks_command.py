"""`test`: static gates, then pytest on real servers; the last line says what the whole came to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scalelab.lab.cli.outcome import CommandFailed, Exit, note, say
from scalelab.lab.cli.place import arguments_of, root_of

_PYTEST_FAILED, _PYTEST_INTERRUPTED, _PYTEST_NO_TESTS = 1, 2, 5
# The tool has no module to run by name, and its script carries the path of the .venv.
_LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"
_MONTH = re.compile(r"^month[1-9]$")


@dataclass(frozen=True, slots=True)
class Gate:
    """A static check. argv runs in the root folder, with this Python's own tools."""

    name: str
    argv: tuple[str, ...]


def gates() -> tuple[Gate, ...]:
    """The static gates, the quick ones first. Tools run as modules: a moved .venv keeps working."""
    python = sys.executable
    return (
        Gate("ruff check", (python, "-m", "ruff", "check", "--quiet", ".")),
        Gate("ruff format", (python, "-m", "ruff", "format", "--check", "--quiet", ".")),
        Gate(
            "import rules",
            (python, "-c", _LINT_IMPORTS),
        ),
        Gate("basedpyright", (python, "-m", "basedpyright", "--warnings")),
    )


def run_tests(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="month1 … month6, core, house, or paths. Without one: everything."),
    ] = None,
    beds: Annotated[
        bool,
        typer.Option("--beds", help="The tests that build a bed first: containers, Kubernetes."),
    ] = False,
    nightly: Annotated[
        bool, typer.Option("--nightly", help="Counts at full size; writes docs/measured/.")
    ] = False,
    gates_only: Annotated[bool, typer.Option("--gates", help="The static gates alone.")] = False,
) -> None:
    """Run the tests against real, private servers on free ports; no running stack is touched.

    Without a target the static gates come first: ruff, format, import rules, types. A monthN runs
    the core's tests and its own. What follows -- goes to pytest. With CI=true a test that cannot
    run here is a failure.

    Examples:  ./lab test   ·   ./lab test month3   ·   ./lab test tests/unit/core -- -k breaker -x
    """
    root = root_of(context)
    words, pytest_arguments = split_targets(list(targets or []), arguments_of(context))
    paths = [path for word in words for path in paths_of(root, word)]
    red: list[str] = []
    if gates_only or (not words and not beds):
        red = [gate.name for gate in gates() if not _run_gate(gate, root)]
    if not gates_only:
        code = _run_pytest(root, paths, beds=beds, nightly=nightly, extra=pytest_arguments)
        if code == _PYTEST_NO_TESTS and beds:
            say("No test is marked `bed`: there is nothing to run, and nothing failed.")
        elif code == _PYTEST_NO_TESTS:
            raise CommandFailed(f"No test was found for: {' '.join(words) or 'tests/'}.")
        elif code == _PYTEST_INTERRUPTED:
            raise typer.Exit(Exit.INTERRUPTED)
        elif code == _PYTEST_FAILED:
            red.append("pytest")
        elif code:
            raise CommandFailed(f"pytest could not run (exit code {code}); its output is above.")
    if red:
        raise CommandFailed(f"Red: {', '.join(red)}.")


def split_targets(targets: list[str], argv: list[str]) -> tuple[list[str], list[str]]:
    """(our targets, pytest's arguments): what stands after `--` on the command line is pytest's."""
    if "--" not in argv:
        return targets, []
    tail = argv[argv.index("--") + 1 :]
    return targets[: len(targets) - len(tail)], tail


def paths_of(root: Path, word: str) -> list[Path]:
    """The test folders or files a word means, those that exist. Raises CommandFailed for none.

    `core` holds the tests of the shared library and of the house; `monthN` is the core's tests
    and its own, so that it passes where the other months' folders are absent.
    """
    if _MONTH.match(word):
        found = [*_folders(root, "core"), *_folders(root, word)]
    elif word == "core":
        found = [*_folders(root, "core"), *_house(root)]
    elif word == "house":
        found = _house(root)
    else:
        # A pytest node id is a path with a tail; relative paths are meant from where one stands.
        plain = word.split("::", 1)[0]
        candidates = [Path(plain).absolute(), root / plain]
        found = [Path(f"{path}{word.removeprefix(plain)}") for path in candidates if path.exists()][
            :1
        ]
    if not found:
        raise CommandFailed(
            f"{word!r} is neither a month, core, house, nor a path with tests.", Exit.USAGE
        )
    return found


def _folders(root: Path, name: str) -> list[Path]:
    return sorted(path for path in root.glob(f"tests/*/{name}") if path.is_dir())


def _house(root: Path) -> list[Path]:
    own = root / "tests" / "house"
    return [*_folders(root, "house"), *([own] if own.is_dir() else [])]


def _run_gate(gate: Gate, root: Path) -> bool:
    """Run one gate; print its line, and its output only if it is red."""
    begun = time.monotonic()
    done = subprocess.run(gate.argv, cwd=root, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    verdict = "ok" if done.returncode == 0 else "RED"
    say(f"  {gate.name:<14} {verdict:>4} {seconds:7.1f} s")
    if done.returncode:
        note((done.stdout + done.stderr).rstrip())
    return done.returncode == 0


def _run_pytest(
    root: Path, paths: list[Path], *, beds: bool, nightly: bool, extra: list[str]
) -> int:
    """pytest in a process of its own, in the root folder; returns its exit code."""
    argv = [sys.executable, "-m", "pytest", *map(str, paths)]
    # A bed is minutes in the making: what it tells meanwhile must not be captured.
    argv += ["--beds", "--capture=no"] if beds else []
    argv += ["--nightly"] if nightly else []
    child = subprocess.Popen([*argv, *extra], cwd=root, env=dict(os.environ))
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal told pytest too; it stops its servers, which takes a moment.
            continue
