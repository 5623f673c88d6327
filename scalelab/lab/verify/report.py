"""A verdict that a program can read: which rule looked at how much, and what broke it.

A rule that looked at nothing proves nothing, so its count stands in the report beside its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise. ids: the smallest set of things that disagree, sorted. detail: a
    sentence with both sides of the disagreement."""

    rule: str
    ids: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """What one rule found. examined: how many things it looked at."""

    rule: str
    examined: int
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All rules together. counted: figures that are worth knowing and break nothing."""

    checked: Mapping[str, int]
    violations: tuple[Violation, ...]
    counted: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def balanced(self) -> bool:
        """Whether every rule holds."""
        return not self.violations

    @classmethod
    def of(cls, checks: Iterable[Check], counted: Mapping[str, int] | None = None) -> Report:
        """The report of `checks`; checks with the same rule name are added up."""
        checked: dict[str, int] = {}
        violations: list[Violation] = []
        for check in checks:
            checked[check.rule] = checked.get(check.rule, 0) + check.examined
            violations.extend(check.violations)
        return cls(checked, tuple(violations), dict(counted or {}))

    def as_json(self) -> dict[str, Any]:
        """The document that `--json` prints."""
        return {
            "balanced": self.balanced,
            "checked": dict(sorted(self.checked.items())),
            "violations": [
                {"rule": each.rule, "ids": list(each.ids), "detail": each.detail}
                for each in self.violations
            ],
            "counted": dict(sorted(self.counted.items())),
        }
