"""What an experiment is: a question, two arms or more, and claims about the shape of the answer.

One file each, `monthN_*/experiments/<slug with underscores>.py`, with a constant

    EXPERIMENT = Experiment(slug=…, question=…, varied=…, fixed=…, run=run)

and `def run(lab: Lab) -> Result`. Importing the file starts nothing; `run` starts its servers with
`lab.runtime` (private, on free ports, shared between the experiments of one call), reports progress
with `lab.note`, and keeps to a short version when `lab.quick` (30 s of measuring).

A claim is an order, a band of ratios, a crossing or an exact count; never a wall-clock limit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from scalelab.lab.runtime import Runtime

Cell = str | int | float | bool | None
Role = Literal["control", "treatment", "theory", "limit"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One condition. figures: what the table shows, named with units (`p99_ms`). points: (x, y)."""

    name: str
    role: Role
    figures: Mapping[str, Cell]
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence about the shape. measured: the numbers it was judged on, in words."""

    claim: str
    holds: bool
    measured: str


@dataclass(frozen=True, slots=True)
class Axis:
    """label with unit, as in `offered load (requests/s)`. log: powers of ten; all values > 0."""

    label: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """How the arms' points are drawn. kind `bars` takes one point an arm and ignores x."""

    x: Axis
    y: Axis
    kind: Literal["lines", "bars"] = "lines"


@dataclass(frozen=True, slots=True)
class Result:
    """What `run` gives back. notes: what a reader must know to read the numbers right."""

    arms: tuple[Arm, ...]
    shape: tuple[Claim, ...]
    plot: Plot
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lab:
    """What `run` may use. folder: for files of this run. seed: of every random choice."""

    quick: bool
    runtime: Runtime
    folder: Path
    seed: int
    note: Callable[[str], None]

    def random(self) -> random.Random:
        """A generator that gives the same numbers for the same seed."""
        return random.Random(self.seed)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A question asked of real servers.

    slug: `cache-stampede`. question: one sentence with a question mark. varied, fixed: what the
    arms differ in, and what is held equal. topics: ids of docs/roadmap.toml. needs: names of
    servers, for the list. also: another month's file never repeats a slug; it adds an arm here.
    """

    slug: str
    question: str
    varied: str
    fixed: str
    run: Callable[[Lab], Result]
    topics: tuple[str, ...] = ()
    needs: tuple[str, ...] = field(default=())


def document(experiment: Experiment, result: Result, *, plot: str, seed: int) -> dict[str, Any]:
    """The JSON document of one run: slug, question, arms, shape, plot (a path), and conditions."""
    return {
        "slug": experiment.slug,
        "question": experiment.question,
        "varied": experiment.varied,
        "fixed": experiment.fixed,
        "seed": seed,
        "arms": [
            {
                "name": arm.name,
                "role": arm.role,
                "figures": dict(arm.figures),
                "points": [list(point) for point in arm.points],
            }
            for arm in result.arms
        ],
        "shape": [
            {"claim": claim.claim, "holds": claim.holds, "measured": claim.measured}
            for claim in result.shape
        ],
        "notes": list(result.notes),
        "plot": plot,
    }
