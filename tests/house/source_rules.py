"""The house's rules about source text, as functions from a folder to violations.

They take the root as a value, so that a test can plant a violation in a copy and see it found.
A violation reads `path:line: what`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
CODE_FOLDERS = ("scalelab", "month[0-9]_*", "bench")
EMPTY_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "misc"})
# Rooms and modules of a month that may use the workbench. Nothing else may import them.
TOOLING = frozenset({"stack", "commands", "experiments", "demo", "truth"})

# Modules longer than the limit, each with the reason that outweighs it.
LONG_MODULES: dict[str, str] = {
    "month3_messaging/rpc/generated/thrift_inventory.py": "made by Thrift's compiler",
}
# Functions longer than the limit, as `path::name`, each with its reason.
LONG_FUNCTIONS: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Module:
    """One source file. name: dotted, a package's own name for its `__init__`."""

    path: Path
    shown: str
    name: str
    tree: ast.Module
    lines: int


@dataclass(frozen=True, slots=True)
class Import:
    """`from module import name` (name is None for `import module`)."""

    module: str
    name: str | None
    line: int


def modules(root: Path) -> list[Module]:
    """All code modules below root (tests are no code in this sense), in order."""
    found: list[Module] = []
    for pattern in CODE_FOLDERS:
        for folder in sorted(root.glob(pattern)):
            for path in sorted(folder.rglob("*.py")):
                text = path.read_text(encoding="utf-8")
                relative = path.relative_to(root)
                parts = relative.with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                tree = ast.parse(text, str(relative))
                found.append(Module(path, str(relative), name, tree, text.count("\n")))
    return found


def imports(module: Module) -> Iterator[Import]:
    """Every import of a module, inside functions too, relative ones made absolute."""
    package = module.name.split(".")
    if module.path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(target, alias.name, node.lineno)


def size_violations(root: Path) -> list[str]:
    """Modules over 400 lines, functions of 60 lines or more, allow-lists aside."""
    found: list[str] = []
    for module in modules(root):
        if module.lines > MAX_MODULE_LINES and module.shown not in LONG_MODULES:
            found.append(f"{module.shown}:1: {module.lines} lines; split it by concept")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _code_lines(node)
                key = f"{module.shown}::{node.name}"
                if lines >= MAX_FUNCTION_LINES and key not in LONG_FUNCTIONS:
                    found.append(f"{module.shown}:{node.lineno}: {node.name} has {lines} lines")
    return found


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end; a docstring is not what makes a function long."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    docstring = node.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def name_violations(root: Path) -> list[str]:
    """Files and folders with a name that says nothing."""
    found: list[str] = []
    for module in modules(root):
        words = set(module.name.split("."))
        found += [f"{module.shown}:1: {word} says nothing" for word in sorted(words & EMPTY_NAMES)]
    return found


def door_violations(root: Path) -> list[str]:
    """A package's `__init__` holds a docstring, re-exports and their exact `__all__`; no code.

    A month's own `__init__` holds its docstring and nothing else: no process loads unused rooms.
    """
    found: list[str] = []
    for module in modules(root):
        if module.path.name != "__init__.py":
            continue
        if ast.get_docstring(module.tree) is None:
            found.append(f"{module.shown}:1: a package says in a docstring what it is")
        body = module.tree.body[1:]
        if module.name.startswith("month") and "." not in module.name and body:
            found.append(f"{module.shown}:{body[0].lineno}: a month's __init__ is its docstring")
        found += [f"{module.shown}:{line}: {what}" for line, what in _door(body)]
    return found


def _door(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    offered: list[str] = []
    listed: list[str] | None = None
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.ImportFrom):
            offered += [alias.asname or alias.name for alias in node.names]
        elif (names := _all_of(node)) is not None:
            listed = names
        else:
            yield node.lineno, "a door has no code"
    if offered and listed is None:
        yield 1, "a door that re-exports says so in __all__"
    for name in sorted(set(offered) ^ set(listed or [])):
        where = "missing from __all__" if name in offered else "in __all__, but not imported"
        yield 1, f"{name} is {where}"


def _all_of(node: ast.stmt) -> list[str] | None:
    """The strings of `__all__ = [...]`, or None for another statement."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    if not isinstance(node.value, ast.List | ast.Tuple):
        return None
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    if not (isinstance(target, ast.Name) and target.id == "__all__"):
        return None
    constants = [entry for entry in node.value.elts if isinstance(entry, ast.Constant)]
    return [str(entry.value) for entry in constants]


def capstone_violations(root: Path) -> list[str]:
    """The capstone imports names of a room's door, never a file in a room of another month."""
    every = modules(root)
    doors = {
        module.name: set(next((names for node in module.tree.body if (names := _all_of(node))), []))
        for module in every
        if module.path.name == "__init__.py"
    }
    found: list[str] = []
    for module in every:
        if not module.name.startswith("month6_"):
            continue
        for used in imports(module):
            parts = used.module.split(".")
            if not parts[0].startswith("month") or parts[0].startswith("month6_"):
                continue
            if len(parts) == 2 and used.name is not None:
                inside = used.name in doors.get(used.module, set())
            else:
                # `from month3_messaging import outbox` names the room itself.
                inside = len(parts) == 1 and f"{used.module}.{used.name}" in doors
            if not inside:
                found.append(
                    f"{module.shown}:{used.line}: {used.module} {used.name or ''} is not offered "
                    f"by a room's door"
                )
    return found


def workbench_violations(root: Path) -> list[str]:
    """Services and the core import neither the workbench nor a month's tooling."""
    found: list[str] = []
    for module in modules(root):
        parts = module.name.split(".")
        month = parts[0].startswith("month")
        if parts[0] == "bench" or parts[:2] == ["scalelab", "lab"]:
            continue
        if module.name == "scalelab.__main__" or (month and TOOLING & set(parts[1:2])):
            continue
        for used in imports(module):
            target = used.module.split(".")
            if used.name is not None:
                target = [*target, used.name]
            tooling = target[0].startswith("month") and TOOLING & set(target[1:2])
            if target[:2] == ["scalelab", "lab"] or tooling:
                found.append(f"{module.shown}:{used.line}: imports {'.'.join(target)}")
    return found


def upward_violations(root: Path) -> list[str]:
    """The core imports no month."""
    return [
        f"{module.shown}:{used.line}: the core imports {used.module}"
        for module in modules(root)
        if module.name.startswith("scalelab")
        for used in imports(module)
        if used.module.startswith("month")
    ]


def long_lived_async_fixtures(root: Path) -> list[str]:
    """Async fixtures of the scope `session` or `package` in the tests."""
    return [
        f"{path.relative_to(root)}:{node.lineno}: {node.name}"
        for path in sorted((root / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef) and _outlives_a_module(node)
    ]


def _outlives_a_module(fixture: ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(word, ast.keyword)
        and word.arg == "scope"
        and isinstance(word.value, ast.Constant)
        and word.value.value in {"session", "package"}
        for mark in fixture.decorator_list
        for word in ast.walk(mark)
    )
