"""Errors become problem documents: the whole table, and what must not leak through it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalelab import errors
from scalelab.web.problem import (
    CODE_BY_STATUS,
    FieldError,
    Problem,
    from_error,
    from_field_errors,
    from_status,
    instance_of,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("x"), 422),
        (errors.InvalidInput("x", code="malformed_json"), 400),
        (errors.InvalidInput("x", code="idempotency_key_missing"), 400),
        (errors.InvalidInput("x", code="idempotency_key_invalid"), 400),
        (errors.Unauthenticated("x"), 401),
        (errors.Forbidden("x"), 403),
        (errors.NotFound("x"), 404),
        (errors.Conflict("x"), 409),
        (errors.IdempotencyMismatch("x"), 422),
        (errors.TooLarge("x"), 413),
        (errors.RateLimited("x"), 429),
        (errors.Overloaded("x"), 503),
        (errors.BreakerOpen("x"), 503),
        (errors.Unavailable("x"), 503),
        (errors.DeadlineExceeded("x"), 503),
        (errors.OutcomeUnknown("x"), 503),
        (errors.CorruptData("x"), 500),
        (errors.ScalelabError("x"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_status(error: errors.ScalelabError, status: int) -> None:
    """The one table, row by row; the stable code travels unchanged."""
    problem = from_error(error)
    assert (problem.status, problem.code) == (status, error.stable_code)


def test_service_may_give_its_own_codes_a_status() -> None:
    """A code a service coined beats the status of its class."""
    declined = errors.Conflict("no", code="card_declined")
    assert from_error(declined, {"card_declined": 402}).status == 402
    assert from_error(declined).status == 409


def test_details_of_failures_stay_inside() -> None:
    """5xx says nothing of hosts, SQL or paths; 4xx tells its caller what was wrong."""
    secret = "connection to 10.1.2.3 refused for password hunter2"
    for error in (
        errors.Unavailable(secret),
        errors.CorruptData(secret),
        errors.Overloaded(secret),
    ):
        body = from_error(error).body(instance="/", request_id="r")
        assert b"10.1.2.3" not in body
        assert b"hunter2" not in body
    assert from_error(errors.Conflict("sold out")).detail == "sold out"


@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable("x", retry_after_s=2.1),
        errors.OutcomeUnknown("x", retry_after_s=2.1),
        errors.RateLimited("x", retry_after_s=2.1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_retry_after_is_whole_seconds_rounded_up(error: errors.ScalelabError) -> None:
    """Rounded down, a caller would come back too early."""
    assert from_error(error).headers["retry-after"] == "3"


def test_challenge_says_whether_a_token_was_shown() -> None:
    """RFC 6750: no error member when the caller sent no token at all."""
    missing = from_error(errors.Unauthenticated("x", code="token_missing"))
    invalid = from_error(errors.Unauthenticated("x", code="token_expired"))
    assert missing.headers["www-authenticate"] == "Bearer"
    assert invalid.headers["www-authenticate"] == 'Bearer error="invalid_token"'


def test_document_has_all_members_and_names_the_field() -> None:
    """RFC 9457 members plus code and request_id; `errors` only where there are some."""
    problem = from_error(errors.InvalidInput("too many", field="lines.0.quantity"))
    document = json.loads(problem.body(instance="/orders", request_id="r-1"))
    assert document == {
        "type": "urn:scalelab:problem:invalid_input",
        "title": "Invalid input",
        "status": 422,
        "detail": "too many",
        "instance": "/orders",
        "code": "invalid_input",
        "request_id": "r-1",
        "errors": [{"field": "lines.0.quantity", "message": "too many"}],
    }
    plain = json.loads(Problem(404, "not_found", "x").body(instance="/", request_id=None))
    assert "errors" not in plain


def test_field_errors_are_bounded() -> None:
    """A body with a million broken fields does not get a megabyte of answer."""
    many = [FieldError("f" * 500, "m" * 5000) for _ in range(1000)]
    assert len(from_field_errors(many).body(instance="/", request_id="r")) < 20 * 400


@pytest.mark.parametrize("status", sorted(CODE_BY_STATUS))
def test_framework_errors_have_a_code_each(status: int) -> None:
    """404 and 405 of the router, and whatever else comes by status alone."""
    assert from_status(status).code == CODE_BY_STATUS[status]


@pytest.mark.parametrize(("status", "code"), [(418, "bad_request"), (599, "internal")])
def test_unusual_statuses_still_have_a_code(status: int, code: str) -> None:
    """Even a status nobody registered ends in a document."""
    assert from_status(status, {"Allow": "GET"}).code == code
    assert from_status(status, {"Allow": "GET"}).headers == {"allow": "GET"}


@given(st.binary(max_size=2000))
def test_instance_is_printable_and_bounded_for_any_path(path: bytes) -> None:
    """No control character, quote or non-ASCII octet of a path survives unescaped."""
    instance = instance_of(path)
    assert len(instance) <= 256
    assert instance.isascii()
    assert instance.isprintable()
    assert not set('"<>\\ ') & set(instance)


@pytest.mark.parametrize("length", range(240, 262))
def test_a_long_path_is_not_cut_inside_an_escape(length: int) -> None:
    """An instance is a URI reference: every percent sign begins a whole escape."""
    instance = instance_of(b"/" + b"a" * (length % 5) + "ö".encode() * length)
    assert len(instance) <= 256
    assert not re.search(r"%(?![0-9A-F]{2})", instance)
