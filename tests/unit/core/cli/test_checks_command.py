"""What `./lab test` runs for each word."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalelab.lab.cli.checks_command import paths_of, split_targets
from scalelab.lab.cli.outcome import CommandFailed


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A test tree with core, month 3 and house, and no month 4."""
    for name in ("unit/core", "integration/core", "unit/month3", "unit/house", "house"):
        (tmp_path / "tests" / name).mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "month3" / "test_x.py").touch()
    return tmp_path


def shown(clone: Path, word: str) -> list[str]:
    """Paths of a word, relative to tests/."""
    return [str(path.relative_to(clone / "tests")) for path in paths_of(clone, word)]


def test_a_month_is_the_core_and_its_own(clone: Path) -> None:
    """So that it passes where the other months are absent."""
    assert shown(clone, "month3") == ["integration/core", "unit/core", "unit/month3"]


def test_a_month_without_tests_still_runs_the_core(clone: Path) -> None:
    """Its folder may come later."""
    assert shown(clone, "month4") == ["integration/core", "unit/core"]


def test_core_takes_the_house_with_it(clone: Path) -> None:
    """The gates of the whole belong to no month."""
    assert shown(clone, "core") == ["integration/core", "unit/core", "unit/house", "house"]
    assert shown(clone, "house") == ["unit/house", "house"]


def test_a_path_is_meant_from_here_or_from_the_root(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node id keeps its tail."""
    assert shown(clone, "tests/unit/month3/test_x.py::test_a") == ["unit/month3/test_x.py::test_a"]
    monkeypatch.chdir(clone / "tests" / "unit")
    assert shown(clone, "month3/test_x.py") == ["unit/month3/test_x.py"]


def test_an_unknown_word_is_refused(clone: Path) -> None:
    """Rather than running everything, or nothing."""
    with pytest.raises(CommandFailed, match="nothing/here"):
        paths_of(clone, "nothing/here")


@pytest.mark.parametrize(
    ("argv", "targets", "ours", "theirs"),
    [
        (["test", "core"], ["core"], ["core"], []),
        (["test", "core", "--", "-k", "x"], ["core", "-k", "x"], ["core"], ["-k", "x"]),
        (["test", "--", "-x"], ["-x"], [], ["-x"]),
        (["test", "core", "--"], ["core"], ["core"], []),
    ],
)
def test_what_follows_two_dashes_is_pytests(
    argv: list[str], targets: list[str], ours: list[str], theirs: list[str]
) -> None:
    """Typer hands both parts over as targets; the command line tells them apart."""
    assert split_targets(targets, argv) == (ours, theirs)
