"""Closures, keys, forms and splits, against what follows from them by definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month2_databases.models import (
    Dependency,
    Form,
    Relation,
    closure,
    depends,
    is_lossless,
    keys,
    normal_form,
)
from month2_databases.models.normal_forms import (
    BY_WAY_OF_ANOTHER,
    PART_OF_A_KEY_DETERMINED,
    PART_OF_THE_KEY,
    STEPS,
    Step,
)
from scalelab.errors import InvalidInput

NAMES = "abcde"
SETS = st.frozensets(st.sampled_from(NAMES), max_size=3)
DEPENDENCIES = st.lists(st.builds(Dependency, SETS, SETS), max_size=5).map(tuple)


@given(SETS, DEPENDENCIES)
def test_a_closure_contains_its_set_and_is_closed(
    start: frozenset[str], dependencies: tuple[Dependency, ...]
) -> None:
    """F1."""
    found = closure(start, dependencies)
    assert start <= found == closure(found, dependencies)


@given(DEPENDENCIES)
def test_a_key_determines_everything_and_no_part_of_it_does(
    dependencies: tuple[Dependency, ...],
) -> None:
    """F2."""
    relation = Relation(frozenset(NAMES), dependencies)
    found = keys(relation)
    assert found
    for key in found:
        assert closure(key, dependencies) == relation.attributes
        for name in key:
            assert closure(key - {name}, dependencies) != relation.attributes


@given(DEPENDENCIES)
def test_boyce_codd_is_where_every_left_side_determines_all(
    dependencies: tuple[Dependency, ...],
) -> None:
    """The definition, said another way."""
    relation = Relation(frozenset(NAMES), dependencies)
    is_so = all(
        one.right <= one.left or closure(one.left, dependencies) == relation.attributes
        for one in dependencies
    )
    assert (normal_form(relation) is Form.BOYCE_CODD) is is_so


@pytest.mark.parametrize(
    ("step", "form"),
    [
        (PART_OF_THE_KEY, Form.FIRST),
        (BY_WAY_OF_ANOTHER, Form.SECOND),
        (PART_OF_A_KEY_DETERMINED, Form.THIRD),
    ],
)
def test_each_step_begins_one_form_higher(step: Step, form: Form) -> None:
    """Worked out from the dependencies."""
    assert normal_form(step.before.relation) is form


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.before.name)
def test_every_step_ends_in_boyce_codd(step: Step) -> None:
    """All its parts."""
    assert {normal_form(part.relation) for part in step.after} == {Form.BOYCE_CODD}


@pytest.mark.parametrize("step", STEPS[1:], ids=lambda step: step.before.name)
def test_joining_the_parts_gives_back_what_was_split(step: Step) -> None:
    """F4 for each step; a split by what determines nothing invents rows."""
    one, other = (part.relation.attributes for part in step.after)
    assert is_lossless(step.before.relation, one, other)


def test_a_split_by_what_determines_nothing_is_not_lossless() -> None:
    """F4: what both halves share must be a key of one."""
    relation = Relation(frozenset("abc"), (depends("a", "b c"),))
    assert not is_lossless(relation, "ab", "bc")
    assert not is_lossless(relation, "ab", "a")
    assert is_lossless(relation, "ab", "ac")


def test_a_dependency_on_a_strange_attribute_is_refused() -> None:
    """A typing error would make a table look better than it is."""
    with pytest.raises(InvalidInput):
        Relation(frozenset("ab"), (depends("a", "c"),))
