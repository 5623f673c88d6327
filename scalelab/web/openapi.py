"""Problem documents in an app's OpenAPI description.

Every operation documents the problems any request can meet; secured operations add 401 and 403.
A route that answers further ones takes them from `problem_responses(404, 409)`.
"""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from scalelab.web.problem import CODE_BY_STATUS, MEDIA_TYPE

_REFERENCE = {"$ref": "#/components/schemas/Problem"}
_ALWAYS = (400, 408, 413, 415, 422, 431, 500, 503)
_SECURED = (401, 403)

REQUIRED_AS = "x-required-as"
"""Schema member of a parameter that the app itself demands, with its own problem: the schema to
describe it with, as a required one."""

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457 problem document. Programs match on code, people read detail.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri-reference"},
        "code": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` argument of a route or router for these problem statuses."""
    return {
        status: {
            "description": CODE_BY_STATUS.get(status, "problem").replace("_", " ").capitalize(),
            "content": {MEDIA_TYPE: {"schema": _REFERENCE}},
        }
        for status in statuses
    }


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = problem_responses(
    400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 429, 431, 500, 503
)
"""All problems at once, for routes that would rather be complete than exact."""


def document_problems(app: FastAPI) -> None:
    """Make `app.openapi()` describe problems; the document is built once, when first asked for."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, routes=app.routes)
            _add_problems(document)
            app.openapi_schema = document
        return app.openapi_schema

    cast("Any", app).openapi = build


def _add_problems(document: dict[str, Any]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    for path in document.get("paths", {}).values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                demanded = parameter["schema"].pop(REQUIRED_AS, None)
                if demanded is not None:
                    parameter.update(required=True, schema=demanded)
            secured = bool(operation.get("security"))
            statuses = _ALWAYS + (_SECURED if secured else ())
            responses = operation.setdefault("responses", {})
            responses.pop("422", None)
            for status, response in problem_responses(*statuses).items():
                responses.setdefault(str(status), response)
