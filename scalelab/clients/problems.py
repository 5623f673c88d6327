"""A peer's RFC 9457 problem document, read back into the class it was raised from. Pure.

The `code` member is the contract: where it is the code of a class in `scalelab.errors`, that
class is raised here as it was there. A narrower code (say `out_of_stock`) keeps its text and gets
the class of its status. A 5xx without a known code says nothing about the effect, so it is
OutcomeUnknown unless the method is safe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from scalelab import errors

_BY_STATUS: dict[int, type[errors.ScalelabError]] = {
    400: errors.InvalidInput,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.Conflict,
    413: errors.TooLarge,
    422: errors.InvalidInput,
    429: errors.RateLimited,
    431: errors.TooLarge,
    503: errors.Unavailable,
}
_WITH_RETRY_AFTER = (errors.Overloaded, errors.Unavailable, errors.OutcomeUnknown)


def error_for_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, safe: bool
) -> errors.ScalelabError:
    """The error for an answer of `status` (>= 300). headers: lower-case names. safe: a read."""
    problem = _problem(headers, body)
    code = problem.get("code")
    code = code if isinstance(code, str) else None
    detail = problem.get("detail") or problem.get("title")
    message = detail if isinstance(detail, str) else f"the peer answered {status}"
    kind = _class_for(status, code, safe=safe)
    error = _make(kind, message, code or kind.code)
    wait_s = _seconds(headers.get("retry-after"))
    if isinstance(error, _WITH_RETRY_AFTER) and wait_s is not None:
        error.retry_after_s = wait_s
    return error


def _class_for(status: int, code: str | None, *, safe: bool) -> type[errors.ScalelabError]:
    known = _CLASS_OF_CODE.get(code or "")
    if known is not None and known is not errors.ScalelabError:
        return known
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return errors.Unavailable if safe else errors.OutcomeUnknown
    return errors.Conflict


def _make(kind: type[errors.ScalelabError], message: str, code: str) -> errors.ScalelabError:
    return kind(message, code=None if code == kind.code else code)


def _problem(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if not headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds, clamped to an hour; the date form counts as absent."""
    if value is None or not (value.isascii() and value.isdigit()):
        return None
    return min(float(value[:12]), 3600.0)


def _tree(root: type[errors.ScalelabError]) -> dict[str, type[errors.ScalelabError]]:
    found = {root.code: root}
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            found |= _tree(kind)
    return found


_CLASS_OF_CODE = _tree(errors.ScalelabError)
