"""Checks whether an Avro schema can read what another one wrote (Avro 1.12, "Schema Resolution"). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

PROMOTED: Final = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
NAMED: Final = ("record", "enum", "fixed")


def problems(writer: Any, reader: Any, path: str = "") -> Iterator[str]:
    """Why a reader with the schema `reader` cannot read records written with `writer`, one sentence per
    reason.

    Yields nothing if it can read them all. A difference that matters only for some records, such as a
    branch of the writer's union that the reader lacks, counts as a problem. Aliases are ignored, as in our
    decoders.

    Args:
        writer: The writer's schema.
        reader: The reader's schema.
        path: Dotted path of the type, put before each sentence.
    """
    yield from _Pair(writer, reader).check(writer, reader, path)


class _Pair:
    def __init__(self, writer: Any, reader: Any) -> None:
        self._writer, self._reader = named_types(writer), named_types(reader)

    def check(self, w: Any, r: Any, path: str) -> Iterator[str]:
        w, r = _unwrapped(w, self._writer), _unwrapped(r, self._reader)
        if isinstance(w, list):
            for branch in w:
                yield from self.check(branch, r, path)
            return
        if isinstance(r, list):
            tried = [list(self.check(w, branch, path)) for branch in r]
            if all(tried):
                of_its_kind = [
                    reasons for branch, reasons in zip(r, tried, strict=True) if self._alike(w, branch)
                ]
                if len(of_its_kind) == 1:
                    yield from of_its_kind[0]
                else:
                    yield f"{path}: no branch of the reader's union can read {shown(w)}"
            return
        wk, rk = kind(w), kind(r)
        if wk != rk:
            if rk not in PROMOTED.get(wk, set()):
                yield f"{path}: {wk} became {rk}"
            return
        if wk in NAMED and short(w["name"]) != short(r["name"]):
            yield f"{path}: {shown(w)} became {shown(r)}"
        elif wk == "record":
            yield from self._record(w, r, path)
        elif wk == "enum":
            lost = [s for s in w["symbols"] if s not in r["symbols"]]
            if lost and "default" not in r:
                yield f"{path}: the reader's enum lacks {', '.join(lost)} and has no default"
        elif wk == "fixed":
            if w["size"] != r["size"]:
                yield f"{path}: fixed of {w['size']} bytes became {r['size']}"
        elif wk in ("array", "map"):
            inner = "items" if wk == "array" else "values"
            yield from self.check(w[inner], r[inner], f"{path}[]")

    def _alike(self, w: Any, r: Any) -> bool:
        r = _unwrapped(r, self._reader)
        return kind(w) == kind(r)

    def _record(self, w: dict[str, Any], r: dict[str, Any], path: str) -> Iterator[str]:
        written = {f["name"]: f for f in w["fields"]}
        for field in r["fields"]:
            at = f"{path}.{field['name']}".lstrip(".")
            if field["name"] in written:
                yield from self.check(written[field["name"]]["type"], field["type"], at)
            elif "default" not in field:
                yield f"{at}: has no default, and the writer's schema lacks it"


def kind(t: Any) -> str:
    """The name of a type's kind, e.g. long or record."""
    return t if isinstance(t, str) else str(t["type"])


def shown(t: Any) -> str:
    """A type in messages: its kind, and its name if it has one."""
    return f"{kind(t)} {short(t['name'])}" if isinstance(t, dict) and "name" in t else kind(t)


def short(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition(".")[2]


def _unwrapped(t: Any, names: dict[str, Any]) -> Any:
    """Resolves references to named types, and ``{"type": {…}}`` to the type inside."""
    while True:
        if isinstance(t, str) and t in names:
            t = names[t]
        elif isinstance(t, dict) and isinstance(t["type"], (dict, list)):
            t = t["type"]
        else:
            return t


def named_types(t: Any) -> dict[str, Any]:
    """The named types of a schema, by short and by full name."""
    types: dict[str, Any] = {}
    if isinstance(t, list):
        for branch in t:
            types |= named_types(branch)
    elif isinstance(t, dict):
        if "name" in t and t.get("type") in NAMED:
            types[t["name"]] = t
            if "namespace" in t:
                types[f"{t['namespace']}.{t['name']}"] = t
        inside = (*(f["type"] for f in t.get("fields", ())), t.get("items"), t.get("values"))
        for inner in (*inside, t["type"] if isinstance(t.get("type"), (dict, list)) else None):
            types |= named_types(inner)
    return types
