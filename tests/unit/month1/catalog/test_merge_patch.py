"""Claims about JSON merge patches (pure): the RFC's own table, and what holds for any documents."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month1_caching_gateway.catalog.merge_patch import Json, apply, parse
from scalelab.errors import InvalidInput

TABLE = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]
documents: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize(("target", "patch", "result"), TABLE)
def test_the_table_of_the_rfc(target: str, patch: str, result: str) -> None:
    """RFC 7396, appendix A, line by line."""
    assert apply(json.loads(target), json.loads(patch)) == json.loads(result)


@given(target=documents, patch=documents)
def test_a_patch_applied_twice_is_applied_once(target: Json, patch: Json) -> None:
    """A repeated request does no harm."""
    once = apply(target, patch)
    assert apply(once, patch) == once


@given(target=documents, patch=documents)
def test_neither_document_is_changed(target: Json, patch: Json) -> None:
    """The result shares nothing that the caller may see change."""
    before = json.dumps([target, patch])
    apply(target, patch)
    assert json.dumps([target, patch]) == before


@pytest.mark.parametrize(
    ("media_type", "body", "code"),
    [
        (None, b"{}", "unsupported_media_type"),
        ("application/json", b"{}", "unsupported_media_type"),
        ("application/merge-patch+json", b"", "malformed_json"),
        ("application/merge-patch+json", b"{", "malformed_json"),
        ("application/merge-patch+json", b'{"a": NaN}', "malformed_json"),
        ("application/merge-patch+json", b"\xff", "malformed_json"),
        ("application/merge-patch+json", b"[" * 100_000, "malformed_json"),
    ],
)
def test_what_is_no_patch_is_refused_by_name(
    media_type: str | None, body: bytes, code: str
) -> None:
    """The wrong kind, no JSON, JSON's false friends, a tower of brackets."""
    with pytest.raises(InvalidInput) as caught:
        parse(media_type, body)
    assert caught.value.stable_code == code


def test_the_media_type_may_carry_parameters() -> None:
    """Names are case-insensitive; a charset says nothing new."""
    assert parse("Application/Merge-Patch+JSON; charset=utf-8", b'{"a":1}') == {"a": 1}
