"""Find experiments and benches by folder; a file that cannot load is named and left out."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from scalelab.errors import InvalidInput, NotFound
from scalelab.lab.course.bench import AnyFigure, Options
from scalelab.lab.course.experiment import Experiment
from scalelab.lab.course.months import Month, find_months

RunBench = Callable[[Options], list[AnyFigure]]


@dataclass(frozen=True, slots=True)
class FoundExperiment:
    """An experiment, the month it lives in, and its file."""

    experiment: Experiment
    month: Month
    path: Path


@dataclass(frozen=True, slots=True)
class FoundBench:
    """A bench before it is imported: its name, what its docstring says, its file.

    month: whose code it measures, as its constant `MONTH` says (`month1`); "" for none.
    """

    name: str
    summary: str
    path: Path
    month: str = ""


def find_experiments(
    root: Path, *, on_error: Callable[[Path, Exception], None]
) -> list[FoundExperiment]:
    """Every experiment of every month, by month, then slug. A repeated slug raises InvalidInput."""
    _importable(root)
    found: list[FoundExperiment] = []
    for month in find_months(root):
        for path in _modules(month.folder / "experiments"):
            try:
                module = importlib.import_module(f"{month.package}.experiments.{path.stem}")
            except Exception as error:  # noqa: BLE001 - one broken file must not hide the others
                on_error(path, error)
                continue
            experiment = getattr(module, "EXPERIMENT", None)
            if isinstance(experiment, Experiment):
                found.append(FoundExperiment(experiment, month, path))
    slugs = [item.experiment.slug for item in found]
    repeated = sorted({slug for slug in slugs if slugs.count(slug) > 1})
    if repeated:
        raise InvalidInput(f"A slug belongs to one file only; repeated: {', '.join(repeated)}.")
    return sorted(found, key=lambda item: (item.month.name, item.experiment.slug))


def find_benches(root: Path) -> list[FoundBench]:
    """Every file of `bench/` that defines `run`, by name. Nothing is imported."""
    found: list[FoundBench] = []
    for path in _modules(root / "bench"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            summary = (ast.get_docstring(tree) or "").split("\n", 1)[0]
            name = path.stem.replace("_", "-")
            found.append(FoundBench(name, summary, path, _month_of(tree)))
    return found


def choose_benches(root: Path, name: str) -> list[FoundBench]:
    """The bench of that name, or all benches of a month. Raises NotFound, with what exists."""
    benches = find_benches(root)
    chosen = [b for b in benches if b.name == name.replace("_", "-")]
    chosen = chosen or [b for b in benches if b.month == name]
    if chosen:
        return chosen
    names = [*dict.fromkeys(b.month for b in benches if b.month), *(b.name for b in benches)]
    raise NotFound(f"There is no bench {name!r}; there are: {', '.join(names) or 'none yet'}.")


def load_bench(root: Path, bench: FoundBench) -> RunBench:
    """Import one bench; an ImportError names a peer that is not installed."""
    _importable(root)
    return cast("RunBench", importlib.import_module(f"bench.{bench.path.stem}").run)


def _month_of(tree: ast.Module) -> str:
    """The text of `MONTH = "month1"`, or an empty one."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="MONTH")], value=ast.Constant(value=str(month))):
                return month
            case _:
                pass
    return ""


def _modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _importable(root: Path) -> None:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
