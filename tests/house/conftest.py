"""The root of the repository, and copies of its sources to plant violations in."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository that these tests judge."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_garbage_collector() -> Iterator[None]:
    """The syntax trees of all sources are a million objects without a cycle, and looking for one
    again and again takes longer than making them."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def copied_tree(root: Path, tmp_path: Path) -> Path:
    """A copy of all sources and tool settings; a test may spoil it."""
    for folder in (root / "scalelab", *root.glob("month[0-9]_*")):
        shutil.copytree(
            folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path
