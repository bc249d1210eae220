"""Generates the class of an event's header (`streams/processing/header_fields.py`) from TraceEvent's schema.

`tools/schemas.py` calls it and writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

NOT_READ: Final = (
    "parent_trace_id",
    "parent_app_id",
    "external_trace_id",
    "host_name",
    "environment",
    "error_type",
)
"""Fields of the header that the processor skips. All others are attributes of `Header`."""
WHOLE: Final = {"token_classes": "TokenClasses"}
"""Field of the header that is a nested record, and that the processor reads whole -> its class."""
OF_RECORDS: Final = {
    "node_execution.dataset_names": "node_dataset_names",
    "dataset_retrieval.dataset_names": "retrieved_dataset_names",
    "evaluation.label": "evaluation_label",
    "evaluation.flag": "evaluation_flag",
    "evaluation.source": "evaluation_source",
}
"""Path of a nested record's field that the processor reads -> attribute of `Header`."""
_PYTHON: Final = {
    "string": "bytes",
    "fixed": "bytes",
    "int": "int",
    "long": "int",
    "enum": "str",
    "boolean": "bool",
}


class Attribute(NamedTuple):
    """One attribute of `Header`."""

    name: str
    path: str
    """Its path in the schema."""
    kind: str
    """The kind of its type in the schema, without null."""
    nullable: bool
    default: Any
    """Its value if the writer's schema lacks the field."""

    @property
    def python(self) -> str:
        """Its type as Python text."""
        kind = "list[bytes]" if self.kind == "array" else WHOLE.get(self.path) or _PYTHON[self.kind]
        return f"{kind} | None" if self.nullable else kind


def attributes(schema: dict[str, Any]) -> Iterator[Attribute]:
    """The attributes of `Header`, in the order of the schema."""
    types: dict[str, Any] = {}
    in_header = True
    for field in schema["fields"]:
        t, nullable = _without_null(field["type"])
        if isinstance(t, dict) and "name" in t:
            types[t["name"]] = t
        kind = _kind(types.get(t, t) if isinstance(t, str) else t)
        if in_header and field["name"] not in NOT_READ and (kind != "record" or field["name"] in WHOLE):
            yield Attribute(field["name"], field["name"], kind, nullable, field.get("default"))
        in_header = in_header and field["name"] != schema["header_last"]
        for inner in t.get("fields", ()) if isinstance(t, dict) else ():
            path = f"{field['name']}.{inner['name']}"
            if path in OF_RECORDS:
                kind = _kind(_without_null(inner["type"])[0])
                yield Attribute(OF_RECORDS[path], path, kind, True, None)


def problems(schema: dict[str, Any]) -> Iterator[str]:
    """Fields that are named in this file and are not in the schema, as sentences."""
    known = {a.path for a in attributes(schema)} | {f["name"] for f in schema["fields"]}
    for name in (*NOT_READ, *WHOLE, *OF_RECORDS):
        if name not in known:
            lists = "NOT_READ, WHOLE or OF_RECORDS"
            yield f"tools/header.py: TraceEvent has no field {name}; remove it from {lists}"


def module(schema: dict[str, Any], note: str) -> str:
    """The source of the generated module.

    Args:
        schema: The schema of TraceEvent.
        note: How the module is generated, for its docstring.
    """
    of_header = list(attributes(schema))
    names = [a.name for a in of_header]
    lines = [
        f'"""The header of an event, as the processor reads it.\n\n{note}\n"""',
        "from __future__ import annotations",
        "",
        "from typing import Any, Final",
        "",
        f"from tailrace.records import {', '.join(WHOLE.values())}",
        "",
        f"NAMES: Final = {tuple(names)!r}",
        '"""Attributes of `Header`, in the order of the schema."""',
        "",
        f"NESTED_PATHS: Final = { {a.name: a.path for a in of_header if a.name != a.path}!r}",
        '"""Attribute -> path in the schema, for attributes that are inside a nested record."""',
        "",
        f"TEXTS: Final = {tuple(a.name for a in of_header if a.kind == 'string')!r}",
        f"LISTS_OF_TEXTS: Final = {tuple(a.name for a in of_header if a.kind == 'array')!r}",
        f"RECORDS: Final[dict[str, Any]] = {{{', '.join(f'{n!r}: {n}' for n in WHOLE.values())}}}",
        '"""Name -> class of the nested records that are read whole."""',
        "",
        "def defaults() -> dict[str, Any]:",
        '    """Values of fields that the writer\'s schema lacks; the others are None."""',
        f"    return { {a.name: a.default for a in of_header if a.default is not None}!r}",
        "class Header:",
        '    """The fields of an event that the processor reads. Texts are UTF-8 bytes, times µs UTC."""',
        "    __slots__ = NAMES",
        "",
        *(f"    {a.name}: {a.python}" for a in of_header),
        "    def __init__(self, values: tuple[Any, ...]) -> None:",
        '        """Takes one value for each of `NAMES`, in order."""',
        f"        ({', '.join(f'self.{n}' for n in names)},) = values",
    ]
    return "\n".join(lines) + "\n"


def _without_null(t: Any) -> tuple[Any, bool]:
    return (t[1], True) if isinstance(t, list) else (t, False)


def _kind(t: Any) -> str:
    return t if isinstance(t, str) else str(t["type"])
