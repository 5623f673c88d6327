"""A peer's problem documents, read back into our errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab import errors
from scalelab.clients.problems import error_for_answer

JSON = {"content-type": "application/problem+json; charset=utf-8"}


def read(status: int, *, safe: bool = False, **members: object) -> errors.ScalelabError:
    return error_for_answer(status, JSON, json.dumps(members).encode(), safe=safe)


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidInput,
        errors.NotFound,
        errors.Overloaded,
        errors.BreakerOpen,
        errors.OutcomeUnknown,
        errors.DeadlineExceeded,
        errors.IdempotencyMismatch,
    ],
)
def test_a_known_code_becomes_its_own_class(kind: type[errors.ScalelabError]) -> None:
    """Whatever the status: the code is the contract."""
    error = read(500, code=kind.code, detail="said")
    assert type(error) is kind
    assert error.message == "said"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidInput),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (402, errors.Conflict),
        (429, errors.RateLimited),
        (503, errors.Unavailable),
    ],
)
def test_a_narrower_code_keeps_its_text_and_gets_the_class_of_its_status(
    status: int, kind: type[errors.ScalelabError]
) -> None:
    """Programs match on the code, retry loops on the class."""
    error = read(status, code="card_declined")
    assert type(error) is kind
    assert error.stable_code == "card_declined"


@pytest.mark.parametrize(
    ("safe", "kind"), [(True, errors.Unavailable), (False, errors.OutcomeUnknown)]
)
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_failure_without_a_known_code_says_nothing_about_the_effect(
    status: int, safe: bool, kind: type[errors.ScalelabError]
) -> None:
    """A proxy's 502 may come after the effect, and "internal" may too."""
    assert type(read(status, safe=safe)) is kind
    assert type(read(status, safe=safe, code="internal")) is kind


@given(st.integers(300, 599), st.binary(max_size=200), st.booleans(), st.text(max_size=20))
def test_any_answer_becomes_an_error_of_the_tree(
    status: int, body: bytes, safe: bool, retry_after: str
) -> None:
    """Rubbish in the body or in Retry-After never raises."""
    headers = {**JSON, "retry-after": retry_after}
    assert isinstance(error_for_answer(status, headers, body, safe=safe), errors.ScalelabError)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3.0),
        ("999999999999", 3600.0),
        ("-1", 1.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 1.0),
        ("²", 1.0),
    ],
)
def test_retry_after_is_read_in_seconds_and_bounded(value: str, expected: float) -> None:
    """A hostile peer does not send us away for years."""
    error = error_for_answer(503, {"retry-after": value}, b"", safe=False)
    assert isinstance(error, errors.Unavailable)
    assert error.retry_after_s == expected
