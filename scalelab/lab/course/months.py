"""Which months this folder holds, and how a person names one.

A month is a folder `monthN_<name>` at the root. Any of them may be absent: the others work on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scalelab.errors import InvalidInput

_FOLDER = re.compile(r"^(month([1-9]))_[a-z0-9_]+$")


@dataclass(frozen=True, slots=True)
class Month:
    """name: `month3`. package: `month3_messaging`. folder: its absolute path."""

    name: str
    package: str
    folder: Path


def default_root() -> Path:
    """The folder that holds `scalelab/`: the repository of the running code."""
    return Path(__file__).resolve().parents[3]


def find_months(root: Path) -> list[Month]:
    """Every month folder under `root`, in order. A folder without `__init__.py` is none."""
    months: list[Month] = []
    for folder in sorted(root.glob("month[0-9]_*")):
        match = _FOLDER.match(folder.name)
        if match and (folder / "__init__.py").is_file():
            months.append(Month(match.group(1), folder.name, folder))
    return months


def find_month(root: Path, name: str) -> Month:
    """The month a person means by `month3`, `3` or `month3_messaging`. Raises InvalidInput."""
    months = find_months(root)
    wanted = f"month{name}" if name.isdigit() else name.rstrip("/")
    for month in months:
        if wanted in (month.name, month.package):
            return month
    there = ", ".join(month.name for month in months) or "none"
    raise InvalidInput(f"There is no {name!r} here; the months in this folder are: {there}.")
