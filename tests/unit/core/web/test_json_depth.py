"""Nesting depth without parsing: agrees with a parser, and is linear for hostile texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab.web.json_depth import nests_deeper_than

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='[]{}"\\ab\u00e9', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=40,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(documents, st.integers(1, 6))
def test_agrees_with_a_parser_on_every_document(document: Any, limit: int) -> None:
    """Brackets inside strings do not count, escapes included."""
    assert nests_deeper_than(json.dumps(document).encode(), limit) == (depth(document) > limit)


@given(st.integers(1, 40), st.integers(1, 40))
def test_counts_arrays_and_objects_alike(arrays: int, objects: int) -> None:
    """The limit is on levels of either kind."""
    text = b"[" * arrays + b'{"a":' * objects + b"1" + b"}" * objects + b"]" * arrays
    assert nests_deeper_than(text, 32) == (arrays + objects > 32)


def test_wide_and_flat_is_not_deep() -> None:
    """Many brackets side by side are an ordinary list of objects."""
    assert not nests_deeper_than(json.dumps([{"a": []}] * 20_000).encode(), 3)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 1_000_000,
        b"]" * 500_000 + b"[" * 500_000,
        b"[" * 40 + b'"' + b'\\"' * 500_000,
        b"[" * 40 + b'"' * 1_000_001,
        b"[" * 40 + b'"' + b"\\" * 1_000_001,
        b'["a",' * 200_000,
    ],
    ids=["open", "reversed", "escaped-quotes", "quotes", "backslashes", "open-with-strings"],
)
def test_hostile_megabytes_are_refused_without_backtracking(text: bytes) -> None:
    """A quadratic scan of these would take minutes, beyond the suite's time limit."""
    assert nests_deeper_than(text, 32)
