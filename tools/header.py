"""The class of an event's header as the processor reads it (`streams/processing/header_fields.py`), from the
schema of TraceEvent. `tools/schemas.py` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

NOT_READ: Final = (
    "parent_trace_id",
    "parent_app_id",
    "external_trace_id",
    "host_name",
    "environment",
    "published_at",
    "error_type",
    "input_price",
    "output_price",
)
"""Fields of the header that the processor steps over. Every other one is an attribute of `Header`."""
OF_BODIES: Final = {
    "node_execution.dataset_names": "node_dataset_names",
    "dataset_retrieval.dataset_names": "retrieved_dataset_names",
}
"""Fields of bodies that the processor reads, and their attributes of `Header`."""
_PYTHON: Final = {"string": "bytes", "fixed": "bytes", "int": "int", "long": "int", "enum": "str"}


class Attribute(NamedTuple):
    """One of `Header`."""

    name: str
    path: str
    """In the schema."""
    kind: str
    """Of the schema's type, without null."""
    nullable: bool
    default: Any
    """What it is where the writer's schema lacks the field."""

    @property
    def python(self) -> str:
        kind = "list[bytes]" if self.kind == "array" else _PYTHON[self.kind]
        return f"{kind} | None" if self.nullable else kind


def attributes(schema: dict[str, Any]) -> Iterator[Attribute]:
    """Those of `Header`, in the order of the schema."""
    types: dict[str, Any] = {}
    in_header = True
    for field in schema["fields"]:
        t, nullable = _without_null(field["type"])
        if isinstance(t, dict) and "name" in t:
            types[t["name"]] = t
        if in_header and field["name"] not in NOT_READ:
            kind = _kind(types.get(t, t) if isinstance(t, str) else t)
            yield Attribute(field["name"], field["name"], kind, nullable, field.get("default"))
        in_header = in_header and field["name"] != schema["header_last"]
        for inner in t.get("fields", ()) if isinstance(t, dict) else ():
            path = f"{field['name']}.{inner['name']}"
            if path in OF_BODIES:
                kind = _kind(_without_null(inner["type"])[0])
                yield Attribute(OF_BODIES[path], path, kind, True, None)


def problems(schema: dict[str, Any]) -> Iterator[str]:
    """What is named here and is not in the schema."""
    found = {a.path for a in attributes(schema)} | {f["name"] for f in schema["fields"]}
    for name in (*NOT_READ, *OF_BODIES):
        if name not in found:
            yield f"tools/header.py: TraceEvent has no field {name}"


def module(schema: dict[str, Any], note: str) -> str:
    """The module's source. note: who writes it, and how."""
    found = list(attributes(schema))
    names = [a.name for a in found]
    lines = [
        f'"""The header of an event, as the processor reads it.\n\n{note}"""',
        "from __future__ import annotations",
        "",
        "from typing import Any, Final",
        "",
        f"NAMES: Final = {tuple(names)!r}",
        '"""Attributes of `Header`, in the order of the schema."""',
        "",
        f"BODY_PATHS: Final = { {a.name: a.path for a in found if a.name != a.path}!r}",
        '"""Where those come from that are not in the header, but in a body."""',
        "",
        f"TEXTS: Final = {tuple(a.name for a in found if a.kind == 'string')!r}",
        f"LISTS_OF_TEXTS: Final = {tuple(a.name for a in found if a.kind == 'array')!r}",
        "def defaults() -> dict[str, Any]:",
        '    """What is not None where a writer\'s schema lacks the field."""',
        f"    return { {a.name: a.default for a in found if a.default is not None}!r}",
        "class Header:",
        '    """What the processor reads of an event. Texts are UTF-8 bytes, times microseconds UTC."""',
        "    __slots__ = NAMES",
        "",
        *(f"    {a.name}: {a.python}" for a in found),
        "    def __init__(self, values: tuple[Any, ...]) -> None:",
        '        """values: of `NAMES`."""',
        f"        ({', '.join(f'self.{n}' for n in names)},) = values",
    ]
    return "\n".join(lines) + "\n"


def _without_null(t: Any) -> tuple[Any, bool]:
    return (t[1], True) if isinstance(t, list) else (t, False)


def _kind(t: Any) -> str:
    return t if isinstance(t, str) else str(t["type"])
