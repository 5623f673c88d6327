"""YAML with bounds: what is accepted, what is refused, and on which line."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.gateway.yaml_nodes import BadYaml, Bounds, read_yaml

LETTERS = "abcdefghij"


def bomb() -> str:
    """Ten values, each ten times in the next, nine times over: 10⁹ values in 400 bytes."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{now}: &{now} [{', '.join(['*' + before] * 10)}]"
        for before, now in itertools.pairwise(LETTERS)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "empty"),
        ("a: 1\nb: 2\na: 3", 3, "given twice, first on line 1"),
        ("a:\n\t- x", 2, "cannot start any token"),
        ("a: 1\nb: [1}\n", 2, "expected ',' or ']'"),
        ("a: 1\n2: b", 2, "a key is a text"),
        ("a: 1\n? [x]\n: b", 2, "a key is a text"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", 2, "tags are not understood"),
        ("a: 1\nb: !mine 3", 2, "tags are not understood"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: 1\nb: *nobody", 2, "stands inside of what it names, or for nothing"),
        ("a: &me\n  - *me", 2, "stands inside of what it names, or for nothing"),
        ("a: 1\n<<: 3", 2, "only a mapping can be merged"),
        ("a: 1\nb: \x00", 2, "a character that a text cannot hold"),
        ("a: 1\nb: " + "9" * 5000, 2, "no number"),
        ("a: 1\nb: " + "[" * 10_000, 2, "nested deeper than 32 levels"),
        (bomb(), 6, "stands for more than 200000 values"),
    ],
)
def test_what_is_refused_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    """Y3, and the bounds of Y1."""
    with pytest.raises(BadYaml) as caught:
        read_yaml(text)
    assert caught.value.line == line
    assert reason in caught.value.reason


def test_aliases_do_not_hide_depth() -> None:
    """Y1: each alias alone is one level deep, the last one is a hundred."""
    steps = "\n".join(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100))
    with pytest.raises(BadYaml, match="nested deeper"):
        read_yaml(f"a0: &a0 [x]\n{steps}")


def test_merged_keys_yield_to_written_ones_and_keep_their_lines() -> None:
    """`<<` is how a route file repeats itself."""
    tree = read_yaml("base: &base\n  auth: none\n  rate: r\nroute:\n  <<: *base\n  auth: user\n")
    assert tree.value == {
        "base": {"auth": "none", "rate": "r"},
        "route": {"auth": "user", "rate": "r"},
    }
    assert tree.line_of(("route", "auth")) == 6
    assert tree.line_of(("route", "rate")) == 3
    assert tree.line_of(("route", "nothing")) == 4


def test_quotes_make_a_text_of_anything() -> None:
    """Plain words follow YAML 1.1; dates stay texts."""
    text = 'a: "12"\nb: 12\nc: 2026-01-01\nd: ~\ne: true\nf: "<<"'
    assert read_yaml(text).value == {
        "a": "12",
        "b": 12,
        "c": "2026-01-01",
        "d": None,
        "e": True,
        "f": "<<",
    }


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!<> \n\t'\"#|0"), max_size=60))
def test_any_text_is_a_tree_or_a_refusal(text: str) -> None:
    """No other exception, whatever is written."""
    lines, nodes = 0, 0
    try:
        nodes = read_yaml(text, Bounds(max_nodes=50, max_depth=4)).nodes
    except BadYaml as error:
        lines = error.line
    assert nodes <= 50
    assert lines <= text.count("\n") + 2
