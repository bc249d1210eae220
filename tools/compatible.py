"""Whether a reader with one Avro schema can read what was written with another (Avro 1.12, "Schema Resolution"). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PROMOTED = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def problems(writer: Any, reader: Any, path: str = "") -> Iterator[str]:
    """One sentence for each thing that a reader with `reader` cannot make of `writer`'s records; nothing if it can."""
    yield from _Pair(writer, reader).check(writer, reader, path)


class _Pair:
    def __init__(self, writer: Any, reader: Any) -> None:
        self._writer, self._reader = _names(writer), _names(reader)

    def check(self, w: Any, r: Any, path: str) -> Iterator[str]:
        w, r = (
            self._writer.get(w, w) if isinstance(w, str) else w,
            self._reader.get(r, r) if isinstance(r, str) else r,
        )
        if isinstance(w, list):
            for branch in w:
                yield from self.check(branch, r, path)
            return
        if isinstance(r, list):
            if not any(not list(self.check(w, branch, path)) for branch in r):
                yield f"{path}: no branch of the reader's union takes {_kind(w)}"
            return
        wk, rk = _kind(w), _kind(r)
        if wk != rk:
            if rk not in PROMOTED.get(wk, set()):
                yield f"{path}: {wk} became {rk}"
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

    def _record(self, w: dict[str, Any], r: dict[str, Any], path: str) -> Iterator[str]:
        written = {f["name"]: f for f in w["fields"]}
        for field in r["fields"]:
            at = f"{path}.{field['name']}".lstrip(".")
            if field["name"] in written:
                yield from self.check(written[field["name"]]["type"], field["type"], at)
            elif "default" not in field:
                yield f"{at}: has no default, and was not always there"


def _kind(t: Any) -> str:
    return t if isinstance(t, str) else str(t["type"])


def _names(t: Any) -> dict[str, Any]:
    """Named types of a schema, by short and full name."""
    found: dict[str, Any] = {}
    if isinstance(t, list):
        for branch in t:
            found |= _names(branch)
    elif isinstance(t, dict):
        if "name" in t and t.get("type") in ("record", "enum", "fixed"):
            found[t["name"]] = t
            if "namespace" in t:
                found[f"{t['namespace']}.{t['name']}"] = t
        for inner in (*(f["type"] for f in t.get("fields", ())), t.get("items"), t.get("values")):
            found |= _names(inner)
    return found
