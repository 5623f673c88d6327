"""Months, experiments and benches are found by folder; what is absent or broken hurts nobody."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scalelab.errors import InvalidInput, NotFound
from scalelab.lab.course.discovery import (
    choose_benches,
    find_benches,
    find_experiments,
)
from scalelab.lab.course.months import find_month, find_months

_NUMBER = itertools.count()

EXPERIMENT = '''
"""An experiment."""
from scalelab.lab.course.experiment import Arm, Axis, Claim, Experiment, Plot, Result

def run(lab):
    raise NotImplementedError

EXPERIMENT = Experiment(slug="SLUG", question="Is it?", varied="a", fixed="b", run=run)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty root; what a test imports from it is forgotten afterwards."""
    path, before = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith(("month", "bench")):
            del sys.modules[name]


def month(root: Path, number: int, files: dict[str, str]) -> str:
    """A month package whose name no other test uses."""
    package = f"month{number}_toy{next(_NUMBER)}"
    for name, text in {"__init__.py": '"""Toy."""\n', **files}.items():
        path = root / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def broken_are_fatal(path: Path, error: Exception) -> None:
    raise AssertionError(f"{path}: {error}")


def test_no_month_is_no_error(folder: Path) -> None:
    """An empty folder has no months, no experiments, no benches."""
    assert find_months(folder) == []
    assert find_experiments(folder, on_error=broken_are_fatal) == []
    assert find_benches(folder) == []


def test_a_month_has_three_names(folder: Path) -> None:
    """By number, by `monthN`, by package; what is no package is no month."""
    package = month(folder, 2, {})
    (folder / "month3_no_package").mkdir()
    assert [m.name for m in find_months(folder)] == ["month2"]
    assert {find_month(folder, name).package for name in ("2", "month2", package)} == {package}
    with pytest.raises(InvalidInput, match="month2"):
        find_month(folder, "month3")


def test_experiments_are_found_and_a_broken_one_is_named(folder: Path) -> None:
    """The healthy file is listed although its neighbour does not import."""
    month(
        folder,
        1,
        {
            "experiments/good.py": EXPERIMENT.replace("SLUG", "good"),
            "experiments/bad.py": "import no_such_module_at_all\n",
            "experiments/_shared.py": "raise SystemExit('private files are not experiments')\n",
        },
    )
    broken: list[str] = []
    found = find_experiments(folder, on_error=lambda path, _error: broken.append(path.name))
    assert [item.experiment.slug for item in found] == ["good"]
    assert broken == ["bad.py"]


def test_a_slug_belongs_to_one_file(folder: Path) -> None:
    """Two months that claim one slug are told so."""
    for number in (1, 2):
        month(folder, number, {"experiments/one.py": EXPERIMENT.replace("SLUG", "one")})
    with pytest.raises(InvalidInput, match="repeated: one"):
        find_experiments(folder, on_error=broken_are_fatal)


def test_benches_are_listed_without_import(folder: Path) -> None:
    """The list shows a bench whose peer is not installed; only running it imports it."""
    bench = folder / "bench"
    bench.mkdir()
    (bench / "hash_rings.py").write_text(
        '"""Rings against a peer.\n\nMore."""\n'
        "import no_such_peer\ndef run(options):\n    return []\n"
    )
    (bench / "shared.py").write_text('"""No bench: it has no run."""\n')
    (found,) = find_benches(folder)
    assert (found.name, found.summary) == ("hash-rings", "Rings against a peer.")
    with pytest.raises(NotFound, match="hash-rings"):
        choose_benches(folder, "other")


def test_a_month_names_all_of_its_benches(folder: Path) -> None:
    """By name one, by month all that say so, by an unknown word none."""
    bench = folder / "bench"
    bench.mkdir()
    for name, month_line in (("one", 'MONTH = "month1"'), ("two", 'MONTH = "month1"'), ("x", "")):
        (bench / f"{name}.py").write_text(f'"""{name}."""\n{month_line}\ndef run(options): ...\n')
    assert [b.name for b in choose_benches(folder, "month1")] == ["one", "two"]
    assert [b.name for b in choose_benches(folder, "x")] == ["x"]
    with pytest.raises(NotFound, match="month1, one, two, x"):
        choose_benches(folder, "month2")
