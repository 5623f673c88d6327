"""The edge of the program: exit codes, one sentence, months that come and go."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scalelab.errors import InvalidInput, Unavailable
from scalelab.lab.cli.app import run
from scalelab.lab.cli.outcome import CommandFailed, Exit, exit_code_of, human_bytes, sentence_of
from scalelab.lab.servers import ServerMissing

_NUMBER = itertools.count()
AddCommands = Callable[[str], str]
COMMANDS = (
    "doctor",
    "up",
    "down",
    "status",
    "logs",
    "test",
    "experiment",
    "bench",
    "report",
    "clean",
)


@pytest.fixture
def add_commands(tmp_path: Path) -> Iterator[AddCommands]:
    """Give the clone at tmp_path a month with this commands.py; returns its package."""
    path, before = list(sys.path), set(sys.modules)

    def add(text: str) -> str:
        package = f"month6_commands{next(_NUMBER)}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text('"""Toy."""\n')
        (tmp_path / package / "commands.py").write_text(text)
        return package

    yield add
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("month6_commands"):
            del sys.modules[name]


HELLO = """
import typer

app = typer.Typer()

@app.command("hello")
def hello(fail: bool = False) -> None:
    \"\"\"Greets.\"\"\"
    if fail:
        raise RuntimeError("two\\nlines")
    typer.echo("hello")

@app.command()
def goodbye() -> None:
    \"\"\"Leaves.\"\"\"
    raise KeyboardInterrupt
"""


def test_help_teaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it is, the first commands, the exit codes; every command is named."""
    assert run(["--root", str(tmp_path), "--help"]) == Exit.OK
    text = capsys.readouterr().out
    for word in ("./lab doctor", "./lab demo", "./lab up month6", "Exit codes: 0", "./lab clean"):
        assert word in text
    for word in COMMANDS:
        assert f"│ {word} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of a command shows how to call it."""
    assert run([command, "--help"]) == Exit.OK
    assert f"Examples:  ./lab {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["up"],
        ["up", "month9"],
        ["logs", "-n", "many"],
        ["status", "--jsn"],
        ["test", "no/such/path"],
        ["experiment", "no-such-slug"],
    ],
)
def test_wrong_usage_is_2(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown commands, options, months, slugs and paths: one sentence, and stdout stays empty."""
    assert run(["--root", str(tmp_path), *words]) == Exit.USAGE
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("lab: ")
    assert answer.err.count("\n") == 1


def test_a_month_brings_commands(
    tmp_path: Path, add_commands: AddCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    """They stand in the help and run at top level."""
    add_commands(HELLO)
    assert run(["--root", str(tmp_path), "--help"]) == Exit.OK
    assert "hello" in capsys.readouterr().out
    assert run(["--root", str(tmp_path), "hello"]) == Exit.OK
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize("command", ["hello", "goodbye"])
def test_a_wrong_option_points_to_the_help_of_its_command(
    tmp_path: Path,
    add_commands: AddCommands,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """A month's command, named or not, is no worse off than one of the core."""
    add_commands(HELLO)
    assert run(["--root", str(tmp_path), command, "--no-such-option"]) == Exit.USAGE
    assert capsys.readouterr().err.endswith(f"Try: ./lab {command} --help\n")


def test_a_broken_month_is_named_and_the_rest_works(
    tmp_path: Path, add_commands: AddCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    """A month that cannot be imported takes neither the help nor other months with it."""
    package = add_commands("import no_such_module_at_all\n")
    add_commands(HELLO)
    assert run(["--root", str(tmp_path), "--help"]) == Exit.OK
    answer = capsys.readouterr()
    assert f"{package}/commands.py cannot be loaded" in answer.err
    assert "hello" in answer.out


def test_core_commands_do_not_load_months(tmp_path: Path, add_commands: AddCommands) -> None:
    """`status` must not pay for a month, nor fail with it."""
    package = add_commands("raise SystemExit('loaded')\n")
    assert run(["--root", str(tmp_path), "status"]) == Exit.OK
    assert f"{package}.commands" not in sys.modules


def test_an_error_is_one_sentence(
    tmp_path: Path,
    add_commands: AddCommands,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Never a traceback, unless SCALELAB_DEBUG asks for one."""
    monkeypatch.delenv("SCALELAB_DEBUG", raising=False)
    add_commands(HELLO)
    words = ["--root", str(tmp_path), "hello", "--fail"]
    assert run(words) == Exit.FAILED
    assert capsys.readouterr().err == (
        "lab: RuntimeError: two lines (SCALELAB_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("SCALELAB_DEBUG", "1")
    assert run(words) == Exit.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(tmp_path: Path, add_commands: AddCommands) -> None:
    """As shells expect."""
    add_commands(HELLO)
    assert run(["--root", str(tmp_path), "goodbye"]) == Exit.INTERRUPTED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed("x"), 1),
        (CommandFailed("x", Exit.MISSING), 3),
        (ServerMissing("x"), 3),
        (InvalidInput("x"), 2),
        (Unavailable("x"), 1),
        (OSError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ExceptionGroup("x", [ExceptionGroup("y", [ServerMissing("z"), OSError("w")])]), 3),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    """The documented table."""
    assert exit_code_of(error) == code


def test_our_own_errors_need_no_class_name() -> None:
    """Their messages are written for people."""
    assert sentence_of(ServerMissing("There is\nno Redis.")) == "There is no Redis."


def test_a_task_groups_bundle_says_what_is_inside() -> None:
    """`unhandled errors in a TaskGroup (1 sub-exception)` helps nobody."""
    bundle = ExceptionGroup("unhandled", [ServerMissing("There is no Redis.")])
    assert sentence_of(bundle) == "There is no Redis."


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**50, "1048576.0 GiB")],
)
def test_sizes_read_well(size: int, text: str) -> None:
    """The unit fits the size."""
    assert human_bytes(size) == text


@pytest.mark.parametrize("words", [["status"], ["down"], ["experiment"], ["bench"], ["report"]])
def test_json_is_one_document(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty clone, too: stdout parses as a whole."""
    assert run(["--root", str(tmp_path), *words, "--json"]) == Exit.OK
    assert isinstance(json.loads(capsys.readouterr().out), dict)
