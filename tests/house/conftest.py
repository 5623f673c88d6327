"""The root of the repository, and copies of its sources to plant violations in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository that these tests judge."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def copied_tree(root: Path, tmp_path: Path) -> Path:
    """A copy of all sources and tool settings; a test may spoil it."""
    for folder in (root / "scalelab", *root.glob("month[0-9]_*")):
        shutil.copytree(
            folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path
