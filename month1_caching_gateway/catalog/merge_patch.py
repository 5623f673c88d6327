"""JSON merge patch: a document that says what another one shall become. Pure.

A member of the patch replaces the target's, a null removes it, an object goes deeper; anything that
is no object replaces the target whole. Lists are values: they are replaced, never merged.
Applying a patch twice is applying it once. Source: RFC 7396; the tests hold its appendix.
"""

from __future__ import annotations

import json
from typing import cast

from scalelab.errors import InvalidInput

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

MEDIA_TYPE = "application/merge-patch+json"


def apply(target: Json, patch: Json) -> Json:
    """`target` after `patch`; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = apply(merged.get(name), value)
    return merged


def parse(media_type: str | None, body: bytes) -> Json:
    """The patch in a request's body.

    Raises InvalidInput with code `unsupported_media_type` (415) or `malformed_json` (400).
    """
    if (media_type or "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise InvalidInput(f"Send the patch as {MEDIA_TYPE}.", code="unsupported_media_type")
    try:
        return cast(Json, json.loads(body, parse_constant=_refuse))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("The patch is not JSON.", code="malformed_json") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
