"""What determines what in a table, and which normal form follows from it. Pure.

Theory of operation
    A dependency X → Y says: rows that agree in X agree in Y. What X determines in the end (its
    closure) is found by applying dependencies until nothing is added. A key is a smallest set that
    determines everything; an attribute of some key is prime. Then, for each dependency whose right
    side is not part of its left one:

    second   no attribute that is not prime depends on a proper part of a key
    third    its left side contains a key, or its right side is prime
    BCNF     its left side contains a key

    The first form (one value in a cell) is about values and not about dependencies: here it is
    taken as given.

Invariants (tests cite them)
    F1  A closure contains its set, and the closure of a closure adds nothing.
    F2  Every key determines all attributes, and no proper part of it does.
    F3  BCNF implies third, third implies second.
    F4  A split is lossless exactly if what both halves share determines one of them.

Cost: keys are searched among all subsets, so for tables that a person can read.
Source: Codd 1970, 1971; Boyce and Codd 1974; Heath 1971 for F4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import combinations

from scalelab.errors import InvalidInput

Attributes = frozenset[str]
_MOST_ATTRIBUTES = 16


class Form(IntEnum):
    """Normal forms, each contained in the one before."""

    FIRST = 1
    SECOND = 2
    THIRD = 3
    BOYCE_CODD = 4


@dataclass(frozen=True, slots=True)
class Dependency:
    """left determines right."""

    left: Attributes
    right: Attributes

    def __str__(self) -> str:
        return f"{', '.join(sorted(self.left))} → {', '.join(sorted(self.right))}"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table's attributes and what holds among them. Raises InvalidInput for a stranger."""

    attributes: Attributes
    dependencies: tuple[Dependency, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.attributes) <= _MOST_ATTRIBUTES:
            raise InvalidInput(f"a table has 1 to {_MOST_ATTRIBUTES} attributes here")
        for one in self.dependencies:
            strangers = (one.left | one.right) - self.attributes
            if strangers:
                raise InvalidInput(f"{one} names {sorted(strangers)}", field="dependencies")


def depends(left: str, right: str) -> Dependency:
    """`depends("order_id sku", "quantity")`: names apart by spaces."""
    return Dependency(frozenset(left.split()), frozenset(right.split()))


def closure(attributes: Iterable[str], dependencies: Sequence[Dependency]) -> Attributes:
    """All that these attributes determine (F1)."""
    found = frozenset(attributes)
    while True:
        more = found.union(*(one.right for one in dependencies if one.left <= found))
        if more == found:
            return found
        found = more


def keys(relation: Relation) -> tuple[Attributes, ...]:
    """All keys, the shortest first (F2)."""
    found: list[Attributes] = []
    for size in range(len(relation.attributes) + 1):
        for chosen in combinations(sorted(relation.attributes), size):
            candidate = frozenset(chosen)
            if any(key <= candidate for key in found):
                continue
            if closure(candidate, relation.dependencies) == relation.attributes:
                found.append(candidate)
    return tuple(found)


def normal_form(relation: Relation) -> Form:
    """The highest form that the table is in (F3)."""
    candidates = keys(relation)
    prime = frozenset[str]().union(*candidates)
    form = Form.BOYCE_CODD
    for one in relation.dependencies:
        beyond = one.right - one.left
        if not beyond or any(key <= one.left for key in candidates):
            continue
        rest = beyond - prime
        if not rest:
            form = min(form, Form.THIRD)
        elif any(one.left < key for key in candidates):
            return Form.FIRST
        else:
            form = min(form, Form.SECOND)
    return form


def is_lossless(relation: Relation, one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether joining both halves gives back exactly the rows that were split (F4)."""
    first, second = frozenset(one), frozenset(other)
    if first | second != relation.attributes:
        return False
    shared = closure(first & second, relation.dependencies)
    return first <= shared or second <= shared
