"""The generic checks: what holds passes, what does not is named by the smallest set of ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.lab.verify import (
    Check,
    Report,
    Violation,
    at_most_once,
    contiguous,
    each,
    equal,
    first_seen_in_order,
    legal_paths,
    same_items,
    subset,
    sums_to_zero,
)


def ids(check: Check) -> list[tuple[str, ...]]:
    return [violation.ids for violation in check.violations]


@given(st.permutations(list(range(6))), st.lists(st.integers(0, 5), max_size=6))
def test_copies_after_the_first_never_break_the_order(seen: list[int], again: list[int]) -> None:
    """Judged by first copies only, whatever repeats follow."""
    check = first_seen_in_order("order", {"k": list(range(6))}, {"k": [*seen, *again]})
    assert (not check.violations) == (seen == sorted(seen))


def test_what_is_missing_or_foreign_does_not_count_as_disorder() -> None:
    """Lost and orphaned things are other rules' business."""
    assert not first_seen_in_order("order", {"k": [1, 2, 3]}, {"k": [9, 1, 3]}).violations
    assert not first_seen_in_order("order", {"k": [1, 1, 2]}, {}).violations


def test_an_inversion_names_the_pair() -> None:
    """The key and the two that changed places."""
    check = first_seen_in_order("order", {"k": ["a", "b"]}, {"k": ["b", "a"]})
    assert ids(check) == [("k", "b", "a")]


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_same_items_is_multiset_equality(left: list[int], right: list[int]) -> None:
    """Against sorting both sides."""
    check = same_items("same", left, right, only_left="l", only_right="r")
    assert (not check.violations) == (sorted(left) == sorted(right))


@pytest.mark.parametrize(
    ("numbers", "is_good"),
    [([1, 2, 3], True), ([], True), ([1, 3], False), ([1, 1], False), ([2], False)],
)
def test_versions_count_from_the_start(numbers: list[int], is_good: bool) -> None:
    """Without gap or repeat."""
    assert (not contiguous("versions", {"k": numbers}, start=1).violations) == is_good


@pytest.mark.parametrize(
    ("path", "is_good"),
    [(["a", "b"], True), (["a"], True), (["b"], False), (["a", "c"], False), ([], False)],
)
def test_paths_take_legal_steps_only(path: list[str], is_good: bool) -> None:
    """From the start, by steps that the table has."""
    check = legal_paths("path", {"k": path}, start="a", steps={"a": {"b"}, "b": {"c"}})
    assert (not check.violations) == is_good


def test_each_check_names_what_is_wrong() -> None:
    """Ids are text, tuples are spread, empty ids are left out."""
    assert ids(at_most_once("once", [("u", 1), ("u", 1), ("v", 2)], what="x")) == [("u", "1")]
    assert ids(subset("part", [1, 2], {1}, detail="d")) == [("2",)]
    assert ids(equal("equal", {"a": 1, "b": 0}, {"c": 2}, zero=0, what="w")) == [("a",), ("c",)]
    assert ids(sums_to_zero("zero", {"e": [5, -4], "f": [5, -5]}, what="p")) == [("e",)]
    assert ids(each("each", [3], lambda _: "bad", lambda item: (item, ""))) == [("3",)]


def test_a_report_adds_up_rules_and_counts_what_they_saw() -> None:
    """The same rule twice is one line; one violation unbalances the whole."""
    violation = Violation("r", ("1",), "d")
    report = Report.of([Check("r", 2), Check("r", 3, (violation,))], {"copies": 4})
    assert not report.balanced
    assert report.as_json() == {
        "balanced": False,
        "checked": {"r": 5},
        "violations": [{"rule": "r", "ids": ["1"], "detail": "d"}],
        "counted": {"copies": 4},
    }
