"""Modules stay short and say by their name what they are; an import has no effect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import source_rules


def test_modules_and_functions_stay_short(root: Path) -> None:
    """At most 400 lines a module and under 60 a function, docstrings aside."""
    assert source_rules.size_violations(root) == []


def test_allow_lists_name_what_is_still_long(root: Path) -> None:
    """An exception is dropped when its reason is gone."""
    shown = {module.shown for module in source_rules.modules(root)}
    listed = {*source_rules.LONG_MODULES, *(k.split("::")[0] for k in source_rules.LONG_FUNCTIONS)}
    assert listed <= shown


def test_size_gate_bites(tmp_path: Path) -> None:
    """A planted long module and a planted long function are found."""
    (tmp_path / "scalelab").mkdir()
    body = "def long():\n" + "    pass\n" * 60
    (tmp_path / "scalelab" / "long.py").write_text(body + "x = 1\n" * 400, encoding="utf-8")
    found = source_rules.size_violations(tmp_path)
    assert [line.split(": ", 1)[1].split(" ")[0] for line in found] == ["461", "long"]


def test_names_say_something(root: Path) -> None:
    """No module or package is called utils, helpers, common or manager."""
    assert source_rules.name_violations(root) == []


@pytest.mark.parametrize("name", ["utils.py", "common/store.py"])
def test_name_gate_bites(tmp_path: Path, name: str) -> None:
    """A planted empty name is found, as a file and as a folder."""
    path = tmp_path / "scalelab" / name
    path.parent.mkdir(parents=True)
    path.write_text("", encoding="utf-8")
    assert len(source_rules.name_violations(tmp_path)) == 1


def test_no_async_fixture_outlives_a_module(root: Path) -> None:
    """One of the session's would keep one event loop for all tests, and the first to be cut off
    inside it would take all others along."""
    assert source_rules.long_lived_async_fixtures(root) == []


def test_fixture_gate_bites(tmp_path: Path) -> None:
    """A planted one is found."""
    (tmp_path / "tests").mkdir()
    text = "import pytest\n\n@pytest.fixture(scope='session')\nasync def loop(): ...\n"
    (tmp_path / "tests" / "conftest.py").write_text(text, encoding="utf-8")
    assert len(source_rules.long_lived_async_fixtures(tmp_path)) == 1


# Imports modules given as arguments; exits 1 and names the first that does more than define.
# Only what a module of ours does by itself counts: what a library does at import is not ours to
# change, so the frame that calls into the library must be ours and at module level.
_PROBE = """
import sys
sys.dont_write_bytecode = True
import importlib, os, signal, threading
root, names = sys.argv[1], sys.argv[2:]
sys.path.insert(0, root)
watched = {"socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system",
           "os.mkdir", "os.rename", "os.remove", "os.fork", "os.posix_spawn"}
def ours():
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "importlib" in name or name.startswith("<frozen"):
            return None
        if name.startswith(root + os.sep) and ".venv" not in name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return None
def hook(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event in watched or writes:
        where = ours()
        if where:
            sys.stderr.write(f"{where}: {event} {args[:1]}\\n")
            os._exit(1)
sys.addaudithook(hook)
for name in names:
    before = threading.active_count(), [signal.getsignal(n) for n in signal.valid_signals()]
    importlib.import_module(name)
    if before != (threading.active_count(), [signal.getsignal(n) for n in signal.valid_signals()]):
        sys.stderr.write(f"{name}: starts a thread or sets a signal handler when imported\\n")
        os._exit(1)
"""


def import_all(root: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules in a fresh process that refuses effects."""
    return subprocess.run(
        [sys.executable, "-c", _PROBE, str(root), *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_no_import_has_an_effect(root: Path) -> None:
    """Importing opens no socket, writes no file, starts no thread, process or signal handler."""
    # `__main__` runs a program by convention; migrations are scripts that Alembic executes.
    names = [
        module.name
        for module in source_rules.modules(root)
        if not module.name.endswith("__main__")
        and "migrations" not in module.name
        and not module.name.startswith("bench")
    ]
    answer = import_all(root, names)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(
    "line",
    [
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0))",
        "open('/dev/null', 'w').close()",
        "import subprocess; subprocess.run(['true'])",
        "import threading; e = threading.Event(); threading.Timer(9, e.set).start()",
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    ],
    ids=["socket", "file", "process", "thread", "signal"],
)
def test_import_gate_bites(tmp_path: Path, line: str) -> None:
    """A planted effect at import is found."""
    (tmp_path / "planted.py").write_text(line + "\n", encoding="utf-8")
    answer = import_all(tmp_path, ["planted"])
    assert answer.returncode == 1
    assert "planted" in answer.stderr
