"""Schemas that others wrote: whether their records can be read as ours, and the schema in the shape that
decoders are made from. Pure; whatever the text is, it becomes a schema or a `DecodeError`.

A decoder holds a step for each type, and calls itself for types inside types. So recursion is refused, and
the size and the depth of what a schema unfolds to are bounded."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tailrace.codec import schemas
from tailrace.codec.resolution import kind, named_types, problems, short
from tailrace.codec.schemas import Schema
from tailrace.errors import DecodeError

MAX_TEXT: Final = 1 << 20
"""Characters of a schema."""
MAX_NODES: Final = 10_000
"""Types in it, references counted as often as they are made."""
MAX_DEPTH: Final = 9
"""Types inside types."""
PRIMITIVE: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_LOGICAL: Final = frozenset({None, "timestamp-micros", "uuid"})
"""Logical types that leave a value what it is for us: times in microseconds, text."""


class _Bad(Exception):
    """What is wrong with a schema, and where."""


def adopted(text: str) -> tuple[str, Schema]:
    """The record that a schema writes, by our name, and the schema in our shape: references unfolded, short
    names, no docs.

    Raises `DecodeError`: ``wrong_record``, of a record that is none of ours; ``unreadable_schema``, with the
    field named."""
    try:
        if len(text) > MAX_TEXT:
            raise _Bad(f"has {len(text)} characters, may have {MAX_TEXT}")
        whole = _Unfolded().of(json.loads(text), "", "", 0)
    except _Bad as e:
        raise DecodeError("unreadable_schema", str(e)) from None
    except ValueError:
        raise DecodeError("unreadable_schema", "is not JSON") from None
    except RecursionError:
        raise DecodeError("unreadable_schema", "is nested too deeply") from None
    known = schemas.by_fingerprint().get(fingerprint(text))
    if known is not None:
        return known
    name = whole["name"] if isinstance(whole, dict) and whole["type"] == "record" else ""
    if name not in schemas.NAMES:
        raise DecodeError(
            "wrong_record", f"the schema is of {name or 'no record'}, not of a record of tailrace"
        )
    ours = schemas.current(name)
    found = next(problems(whole, ours), None)
    if found is not None:
        raise DecodeError("unreadable_schema", f"cannot be read as {name}: {found}")
    shaped: Schema = _Shaping(ours).of(whole, ours, "")
    return name, shaped


def fingerprint(text: str) -> bytes:
    """Of the schema as it was written, which is what its values carry. Raises `DecodeError`."""
    try:
        return schemas.fingerprint(json.loads(text))
    except Exception as e:  # fastavro has many
        raise DecodeError("unreadable_schema", f"has no canonical form: {type(e).__name__}") from None


class _Shaping:
    """Makes a writer's schema, which `problems` found readable, ask for values as the reader wants them."""

    def __init__(self, reader: Schema) -> None:
        self._names = named_types(reader)

    def of(self, w: Any, r: Any, path: str) -> Any:
        """The writer's type, with text where it says bytes (the same on the wire). Raises `DecodeError` for a
        logical type that changes what a value means."""
        if isinstance(w, list):
            return [self.of(branch, r, path) for branch in w]
        r = self._branch(w, r)
        wk, rk = kind(w), kind(r)
        logical = w.get("logicalType") if isinstance(w, dict) else None
        if logical not in _LOGICAL or (logical == "timestamp-micros" and wk != "long"):
            text = f"{path}: logical type {logical}; times are timestamp-micros, amounts are text"
            raise DecodeError("unreadable_schema", text)
        if {wk, rk} == {"bytes", "string"}:
            return rk
        if wk == "record":
            ours = {f["name"]: f for f in r["fields"]}
            return {**w, "fields": [self._field(f, ours.get(f["name"]), path) for f in w["fields"]]}
        if wk in ("array", "map"):
            inner = "items" if wk == "array" else "values"
            return {**w, inner: self.of(w[inner], r[inner], f"{path}[]")}
        return w

    def _field(self, w: Schema, r: Schema | None, path: str) -> Schema:
        if r is None:
            return w
        return {**w, "type": self.of(w["type"], r["type"], f"{path}.{w['name']}".lstrip("."))}

    def _branch(self, w: Any, r: Any) -> Any:
        """What of the reader takes `w`; of a union the branch of its own kind, else the first that can."""
        if isinstance(r, list):
            found = [
                b
                for b in (self._names.get(b, b) if isinstance(b, str) else b for b in r)
                if not [*problems(w, b)]
            ]
            r = next((b for b in found if kind(b) == kind(w)), found[0])
        return self._names.get(r, r) if isinstance(r, str) else r


class _Unfolded:
    """Copies a schema with every reference replaced by what it names."""

    def __init__(self) -> None:
        self._types: dict[str, tuple[Any, int, int]] = {}
        """Full name -> what it is, its number of nodes, its height."""
        self._open: set[str] = set()
        self._nodes = 0
        self._deepest = 0

    def of(self, t: Any, namespace: str, path: str, depth: int) -> Any:
        self._count(1, path, depth)
        if isinstance(t, str):
            return t if t in PRIMITIVE else self._reference(t, namespace, path, depth)
        if isinstance(t, list):
            return self._union(t, namespace, path, depth)
        if not isinstance(t, dict):
            raise _Bad(f"{path or 'the schema'}: is no Avro type")
        kind = t.get("type")
        if isinstance(kind, (dict, list)):
            return self.of(kind, namespace, path, depth)
        if kind in ("record", "enum", "fixed"):
            return self._definition(t, namespace, path, depth)
        if kind == "array":
            return {"type": "array", "items": self.of(t.get("items"), namespace, f"{path}[]", depth + 1)}
        if kind == "map":
            return {"type": "map", "values": self.of(t.get("values"), namespace, f"{path}[]", depth + 1)}
        if kind in PRIMITIVE:
            return {"type": kind, **_logical_of(t)} if "logicalType" in t else kind
        if isinstance(kind, str):
            return self._reference(kind, namespace, path, depth)
        raise _Bad(f"{path or 'the schema'}: is no Avro type")

    def _count(self, nodes: int, path: str, depth: int) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, depth)
        if self._nodes > MAX_NODES:
            raise _Bad(f"unfolds to more than {MAX_NODES} types")
        if depth > MAX_DEPTH:
            raise _Bad(f"{path}: more than {MAX_DEPTH} types inside each other")

    def _reference(self, name: str, namespace: str, path: str, depth: int) -> Any:
        full = f"{namespace}.{name}" if namespace and "." not in name else name
        if full not in self._types and full not in self._open:
            full = name
        if full in self._open:
            raise _Bad(f"{path}: {name} is inside itself; recursive types are not supported")
        if full not in self._types:
            raise _Bad(f"{path or 'the schema'}: {name[:100]!r} is no Avro type")
        found, nodes, height = self._types[full]
        self._count(nodes, path, depth + height)
        return found

    def _union(self, branches: list[Any], namespace: str, path: str, depth: int) -> list[Any]:
        found = [self.of(b, namespace, path, depth) for b in branches]
        if not 1 <= len(found) <= 63 or any(isinstance(b, list) for b in found):
            raise _Bad(f"{path}: a union has 1 to 63 types, and no union among them")
        return found

    def _definition(self, t: Schema, namespace: str, path: str, depth: int) -> Schema:
        name, own = t.get("name"), t.get("namespace", namespace)
        if not isinstance(name, str) or not _FULL_NAME.fullmatch(name):
            raise _Bad(f"{path or 'the schema'}: a type without a valid name")
        if not isinstance(own, str) or (own and not _FULL_NAME.fullmatch(own)):
            raise _Bad(f"{path or name}: its namespace is no name")
        full = name if "." in name or not own else f"{own}.{name}"
        if full in self._types or full in self._open or full in PRIMITIVE:
            raise _Bad(f"{path or 'the schema'}: {full} is defined twice")
        before, deepest, self._deepest = self._nodes, self._deepest, depth
        self._open.add(full)
        made = {
            "type": t["type"],
            "name": short(full),
            **self._inside(t, full.rpartition(".")[0], path, depth),
        }
        self._open.discard(full)
        self._types[full] = made, self._nodes - before, self._deepest - depth
        self._deepest = max(deepest, self._deepest)
        return made

    def _inside(self, t: Schema, namespace: str, path: str, depth: int) -> Schema:
        if t["type"] == "enum":
            return {"symbols": _symbols(t.get("symbols"), path)}
        if t["type"] == "fixed":
            size = t.get("size")
            if type(size) is not int or not 0 <= size <= MAX_TEXT:
                raise _Bad(f"{path}: a fixed needs a size")
            return {"size": size, **_logical_of(t)}
        fields: list[Schema] = []
        for field in t["fields"] if isinstance(t.get("fields"), list) else [None]:
            name = field.get("name") if isinstance(field, dict) else None
            valid = isinstance(name, str) and _NAME.fullmatch(name)
            if not valid or not isinstance(field, dict) or any(f["name"] == name for f in fields):
                raise _Bad(f"{path or t['name']}: a field without a valid name, or one that is there twice")
            at = f"{path}.{name}".lstrip(".")
            fields.append({"name": name, "type": self.of(field.get("type"), namespace, at, depth + 1)})
        return {"fields": fields}


def _symbols(symbols: Any, path: str) -> list[str]:
    named = isinstance(symbols, list) and all(isinstance(s, str) and _NAME.fullmatch(s) for s in symbols)
    if not named or not 1 <= len(symbols) <= MAX_NODES or len(set(symbols)) < len(symbols):
        raise _Bad(f"{path}: an enum needs symbols that are names, each once")
    return list(symbols)


def _logical_of(t: Schema) -> dict[str, str]:
    logical = t.get("logicalType")
    return {"logicalType": logical} if isinstance(logical, str) else {}
