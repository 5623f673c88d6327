"""Errors as RFC 9457 problem documents: the one place that knows HTTP status codes.

A problem has type, title, status, detail, instance, code, request_id, and `errors` for input
that breaks a schema. `code` is stable. Details of 5xx answers are generic: what went wrong
inside is for the log. Input values are never echoed; field names and messages are cut short.
Source: RFC 9457; differs in: `code` and `request_id` are always there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from scalelab.errors import (
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    ScalelabError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"

STATUS_BY_CODE: Mapping[str, int] = {
    "malformed_json": 400,
    "idempotency_key_missing": 400,
    "idempotency_key_invalid": 400,
    "body_timeout": 408,
    "unsupported_media_type": 415,
    "header_too_large": 431,
}
"""Codes whose status is narrower than that of their class."""

STATUS_BY_CLASS: Mapping[type[ScalelabError], int] = {
    InvalidInput: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    IdempotencyMismatch: 422,
    TooLarge: 413,
    RateLimited: 429,
    Overloaded: 503,
    Unavailable: 503,
    OutcomeUnknown: 503,
    ScalelabError: 500,
}

CODE_BY_STATUS: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "body_timeout",
    409: "conflict",
    412: "precondition_failed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
    428: "precondition_required",
    429: "rate_limited",
    431: "header_too_large",
    500: "internal",
    503: "unavailable",
}
"""Codes for errors the framework raises by status alone."""

_HIDDEN_DETAIL = {
    500: "The service failed. The failure has been recorded under the request id.",
    503: "The service cannot answer now. Try again later.",
}
_ERRORS_LIMIT = 20
_FIELD_LIMIT = 64
_MESSAGE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: where (dotted path) and which."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What the caller is told. headers: lower-case names, beside content-type and length."""

    status: int
    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def body(self, *, instance: str, request_id: str | None) -> bytes:
        """The document as JSON. instance: the request's path, already percent-encoded."""
        document: dict[str, object] = {
            "type": f"urn:scalelab:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = [
                {"field": one.field[:_FIELD_LIMIT], "message": one.message[:_MESSAGE_LIMIT]}
                for one in self.errors[:_ERRORS_LIMIT]
            ]
        return json.dumps(document, separators=(",", ":")).encode("ascii")


INTERNAL = Problem(500, "internal", _HIDDEN_DETAIL[500])


def from_error(error: ScalelabError, statuses: Mapping[str, int] | None = None) -> Problem:
    """The problem of an error of ours. statuses: a service's own codes and their status."""
    code = error.stable_code
    status = (statuses or {}).get(code) or STATUS_BY_CODE.get(code) or _status_of_class(error)
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded | Unavailable | OutcomeUnknown):
        headers["retry-after"] = str(max(0, math.ceil(error.retry_after_s)))
    if status == 401:
        headers["www-authenticate"] = _challenge(code)
    errors: tuple[FieldError, ...] = ()
    if isinstance(error, InvalidInput) and error.field is not None:
        errors = (FieldError(error.field, error.message),)
    detail = error.message[:_MESSAGE_LIMIT] if status < 500 else _hidden(status)
    return Problem(status, code, detail, errors, headers)


def from_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """The problem of an error known by its status only (404 and 405 of the router)."""
    try:
        detail = HTTPStatus(status).description or HTTPStatus(status).phrase
    except ValueError:
        detail = "The request failed."
    code = CODE_BY_STATUS.get(status, "internal" if status >= 500 else "bad_request")
    shown = detail if status < 500 else _hidden(status)
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    return Problem(status, code, shown, headers=lower)


def from_field_errors(errors: Sequence[FieldError]) -> Problem:
    """422: the document can be read but breaks the schema."""
    return Problem(422, "invalid_input", "The request breaks its schema.", tuple(errors))


def malformed_json() -> Problem:
    """400: the body is not JSON that this service reads."""
    return Problem(400, "malformed_json", "The body is not JSON this service reads.")


def instance_of(path: bytes) -> str:
    """The path of a request as a URI reference, safe to print, at most 256 characters."""
    text = quote(path[:256], safe="/%:@!$&'()*+,;=-._~")[:256]
    # A cut inside an escape would leave a lone "%" or "%4", which is no URI reference.
    cut = text.rfind("%", len(text) - 2)
    return text if cut == -1 else text[:cut]


def _status_of_class(error: ScalelabError) -> int:
    for cls in type(error).__mro__:
        status = STATUS_BY_CLASS.get(cls)
        if status is not None:
            return status
    return 500


def _hidden(status: int) -> str:
    return _HIDDEN_DETAIL.get(status, _HIDDEN_DETAIL[500])


def _challenge(code: str) -> str:
    if code in ("token_missing", "unauthenticated"):
        return "Bearer"
    if code.startswith("key_"):
        return 'ApiKey realm="gateway"'
    if code == "invalid_client":
        return 'Basic realm="token"'
    return 'Bearer error="invalid_token"'
