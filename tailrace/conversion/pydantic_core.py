"""Reads pydantic-core's schema of a class: which fields have a serializer that is not pydantic's own. Pure.

A type may bring its serializer with it, which neither the class nor its fields name; only the schema has it.
The schema's form: pydantic_core.core_schema.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Final

_FUNCTIONS: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)
_NO_PARTS: Final = frozenset({"serialization", "metadata", "default"})
_OF_ITS_OWN: Final = frozenset({"model", "dataclass"})
"""Classes, whose values are converted by their own schema."""

Definitions = Mapping[str, Any]


def replaced_fields(core: dict[str, Any]) -> frozenset[str]:
    """The names of the fields whose values a serializer replaces.

    Args:
        core: the schema of a pydantic model or dataclass.
    """
    definitions: Definitions = {d.get("ref", ""): d for d in core.get("definitions", ())}
    schema: Any = core
    for _ in range(100):  # validators and the class itself are around the fields
        if not isinstance(schema, dict):
            break
        fields = schema.get("fields")
        if schema.get("type") == "model-fields" and isinstance(fields, dict):
            return frozenset(n for n, f in fields.items() if _replaces(f, definitions, frozenset()))
        if schema.get("type") == "dataclass-args" and isinstance(fields, list):
            return frozenset(f["name"] for f in fields if _replaces(f, definitions, frozenset()))
        schema = definitions.get(schema.get("schema_ref", "")) or schema.get("schema")
    return frozenset()


def _replaces(schema: Any, definitions: Definitions, seen: frozenset[str]) -> bool:
    """Whether a schema, or a part of it, has a serializer that is not pydantic's own."""
    if isinstance(schema, list | tuple):
        return any(_replaces(part, definitions, seen) for part in schema)
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if kind in _OF_ITS_OWN:
        return False
    if kind == "definition-ref":
        ref = schema["schema_ref"]
        return ref not in seen and _replaces(definitions.get(ref), definitions, seen | {ref})
    function = schema.get("serialization", {}).get("function")
    if function is not None and not _module(function).startswith("pydantic."):
        return True
    return any(_replaces(part, definitions, seen) for name, part in schema.items() if name not in _NO_PARTS)


def _module(function: Any) -> str:
    module = function.__module__ if type(function) in _FUNCTIONS else ""
    return module if type(module) is str else ""
