"""Problem documents on the wire, and the framework's own errors turned into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from scalelab.errors import InvalidInput, ScalelabError
from scalelab.telemetry import Log
from scalelab.web.problem import (
    MEDIA_TYPE,
    FieldError,
    Problem,
    from_error,
    from_field_errors,
    from_status,
    instance_of,
    malformed_json,
)

REQUEST_ID = "scalelab.request_id"
"""Scope key under which the request's id travels."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def problem_body(problem: Problem, scope: Scope) -> bytes:
    """The document for the request of `scope`."""
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return problem.body(instance=instance_of(path), request_id=scope.get(REQUEST_ID))


async def send_problem(
    problem: Problem, scope: Scope, send: Send, *, more_body: bool = False
) -> None:
    """Answer with `problem` from plain ASGI code. more_body: the caller completes the answer."""
    body = problem_body(problem, scope)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *((name.encode(), value.encode("latin-1")) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


def problem_response(problem: Problem, request: Request) -> Response:
    """The same as a response object, for exception handlers."""
    headers = {"cache-control": "no-store", **problem.headers}
    return Response(
        problem_body(problem, request.scope), problem.status, headers, media_type=MEDIA_TYPE
    )


def install_problem_handlers(app: FastAPI, statuses: Mapping[str, int], log: Log) -> None:
    """Make every error an app knows a problem document. Unknown exceptions pass through.

    What a 5xx answer hides from its caller is written to `log`.
    """

    async def on_error(request: Request, error: Exception) -> Response:
        problem = from_error(cast("ScalelabError", error), statuses)
        if problem.status >= 500:
            log.warning("request failed", code=problem.code, error=str(error))
        return problem_response(problem, request)

    async def on_validation(request: Request, error: Exception) -> Response:
        problem = _validation_problem(cast("RequestValidationError", error), request)
        return problem_response(problem, request)

    async def on_http(request: Request, error: Exception) -> Response:
        return problem_response(_http_problem(cast("HTTPException", error), request), request)

    app.add_exception_handler(ScalelabError, on_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _validation_problem(error: RequestValidationError, request: Request) -> Problem:
    listed = cast("list[dict[str, object]]", list(error.errors()))
    if any(one.get("type") == "json_invalid" for one in listed):
        return malformed_json()
    if isinstance(error.body, bytes) and error.body and not _is_json(request):
        return from_error(
            InvalidInput("Send the body as application/json.", code="unsupported_media_type")
        )
    return from_field_errors([_field_error(one) for one in listed])


def _field_error(error: Mapping[str, object]) -> FieldError:
    location = cast("tuple[str | int, ...]", error.get("loc", ()))
    path = ".".join(str(part) for part in location[1:]) or str(location[0] if location else "")
    return FieldError(path, str(error.get("msg", "")))


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _http_problem(error: HTTPException, request: Request) -> Problem:
    if error.status_code == 400 and isinstance(error.__cause__, ValueError | RecursionError):
        return malformed_json()
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return from_status(error.status_code, headers)


def _allowed(request: Request) -> list[str]:
    """Every method some route takes for this path; the router itself knows one route's only."""
    app = cast("FastAPI", request.scope["app"])
    found: list[str] = []
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        scope.pop("fastapi", None)
        if any(route.matches(scope)[0].name == "FULL" for route in app.router.routes):
            found.append(method)
    return found
