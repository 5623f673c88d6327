"""JSON Schemas that the framework cannot derive from a route: of patches, of negotiated answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

Schema = dict[str, Any]


def whole(model: type[BaseModel]) -> Schema:
    """The schema of `model` without references, so that it can stand anywhere in a document."""
    schema = model.model_json_schema(mode="validation")
    return cast(Schema, _inlined(schema, cast(Schema, schema.get("$defs", {}))))


def of_patch(model: type[BaseModel]) -> Schema:
    """The schema of a merge patch for what `model` describes: every member may be absent."""
    return cast(Schema, _without_required(whole(model)))


def _inlined(schema: object, definitions: Mapping[str, Any]) -> object:
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, object]", schema)
    reference = members.get("$ref")
    if isinstance(reference, str):
        return _inlined(definitions[reference.rpartition("/")[2]], definitions)
    return {name: _inlined(one, definitions) for name, one in members.items() if name != "$defs"}


def _without_required(schema: object) -> object:
    if isinstance(schema, list):
        return [_without_required(one) for one in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_required(one)
        for name, one in cast("dict[str, object]", schema).items()
        if not (name == "required" and isinstance(one, list))
    }
