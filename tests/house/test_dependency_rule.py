"""month6 → months 1-5, independent → the core; services know no workbench; doors are doors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house import source_rules

_LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the import contracts of pyproject.toml on the sources of a folder."""
    return subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '.'); {_LINT}", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def month(root: Path, number: int) -> str:
    """The package of a month; its tests pass where another month's folder is absent."""
    found = sorted(root.glob(f"month{number}_*/__init__.py"))
    if not found:
        pytest.skip(f"not run: month {number} is not in this folder")
    return found[0].parent.name


def test_import_contracts_hold(root: Path) -> None:
    """The sources keep every contract of pyproject.toml."""
    if len(list(root.glob("month[1-6]_*/__init__.py"))) < 6:
        pytest.skip("not run: the contracts name all six months")
    answer = lint_imports(root)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (3, "{month1}"),
        (3, "{month6}"),
        (2, "scalelab.lab.runtime"),
        (6, "scalelab.lab.servers"),
    ],
    ids=["month-month", "month-capstone", "month-workbench", "capstone-workbench"],
)
def test_import_contracts_bite(root: Path, copied_tree: Path, where: int, what: str) -> None:
    """A planted import against the rule turns the gate red and is named."""
    package = month(root, where)
    target = what.format(month1=month(root, 1), month6=month(root, 6))
    (copied_tree / package / "planted.py").write_text(f"import {target}\n", encoding="utf-8")
    answer = lint_imports(copied_tree)
    assert answer.returncode != 0
    assert f"{package}.planted -> " in answer.stdout


def test_import_contracts_bite_in_the_core(root: Path, copied_tree: Path) -> None:
    """The core may import no month."""
    package = month(root, 1)
    (copied_tree / "scalelab" / "planted.py").write_text(f"import {package}\n", encoding="utf-8")
    answer = lint_imports(copied_tree)
    assert answer.returncode != 0
    assert "scalelab.planted -> " in answer.stdout


RULES = [
    source_rules.capstone_violations,
    source_rules.workbench_violations,
    source_rules.upward_violations,
    source_rules.door_violations,
]


@pytest.mark.parametrize("rule", RULES)
def test_sources_keep_the_rule(root: Path, rule: Callable[[Path], list[str]]) -> None:
    """What import-linter cannot say: doors, tooling, names offered."""
    assert rule(root) == []


ROOM = {
    "month3_x/__init__.py": '"""Month."""\n',
    "month3_x/outbox/__init__.py": (
        '"""Room."""\nfrom month3_x.outbox.table import append\n\n__all__ = ["append"]\n'
    ),
    "month3_x/outbox/table.py": "def append(): ...\nDDL = ''\n",
    "month6_y/__init__.py": '"""Capstone."""\n',
}


def planted(tmp_path: Path, files: dict[str, str]) -> Path:
    """A small tree with a room and a capstone, and the given files on top."""
    for name, text in (ROOM | files).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "from month3_x.outbox.table import append",
        "import month3_x.outbox.table",
        "from month3_x.outbox import table",
        "from month3_x.outbox import DDL",
        "def late():\n    from month3_x.outbox.table import DDL",
    ],
)
def test_capstone_gate_bites(tmp_path: Path, line: str) -> None:
    """A file in a room, a submodule taken through the door, a name not offered: all are found."""
    tree = planted(tmp_path, {"month6_y/use.py": line + "\n"})
    assert len(source_rules.capstone_violations(tree)) == 1


@pytest.mark.parametrize(
    "line", ["from month3_x.outbox import append", "from month3_x import outbox"]
)
def test_capstone_gate_lets_the_door_pass(tmp_path: Path, line: str) -> None:
    """A name that the door offers, and the room itself, are what the rule allows."""
    tree = planted(tmp_path, {"month6_y/use.py": line + "\n"})
    assert source_rules.capstone_violations(tree) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("month3_x/outbox/relay.py", "from scalelab.lab import runtime"),
        ("month3_x/outbox/relay.py", "from month3_x.stack import start"),
        ("month6_y/orders.py", "from month6_y import demo"),
        ("scalelab/web.py", "import scalelab.lab.servers"),
    ],
)
def test_workbench_gate_bites(tmp_path: Path, path: str, line: str) -> None:
    """A service that reaches the workbench, directly or through tooling, is found."""
    tree = planted(tmp_path, {path: line + "\n"})
    assert len(source_rules.workbench_violations(tree)) == 1


def test_workbench_gate_lets_tooling_pass(tmp_path: Path) -> None:
    """A stack is what the workbench is for."""
    tree = planted(tmp_path, {"month3_x/stack.py": "from scalelab.lab.runtime import Runtime\n"})
    assert source_rules.workbench_violations(tree) == []


@pytest.mark.parametrize(
    "text",
    [
        '"""Room."""\nfrom a.b import c\n',
        '"""Room."""\nfrom a.b import c\n\n__all__ = ["c", "d"]\n',
        '"""Room."""\nfrom a.b import c, d\n\n__all__ = ["c"]\n',
        '"""Room."""\n\nLIMIT = 3\n',
        "from a.b import c\n\n__all__ = ['c']\n",
    ],
    ids=["no-all", "too-much", "too-little", "code", "no-docstring"],
)
def test_door_gate_bites(tmp_path: Path, text: str) -> None:
    """Each way to leave the form of a door is found."""
    tree = planted(tmp_path, {"month3_x/outbox/__init__.py": text})
    assert source_rules.door_violations(tree) != []


def test_month_door_gate_bites(tmp_path: Path) -> None:
    """A month's own `__init__` that loads a room is found."""
    text = '"""Month."""\nfrom month3_x.outbox import append\n\n__all__ = ["append"]\n'
    tree = planted(tmp_path, {"month3_x/__init__.py": text})
    assert source_rules.door_violations(tree) != []


def test_upward_gate_bites(tmp_path: Path) -> None:
    """A core module that imports a month, even late, is found."""
    text = "def late():\n    import month3_x.outbox\n"
    tree = planted(tmp_path, {"scalelab/planted.py": text})
    assert len(source_rules.upward_violations(tree)) == 1
