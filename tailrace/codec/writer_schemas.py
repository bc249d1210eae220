"""Checks schemas from outside, and converts them to the form from which decoders are made. Pure.

Any text results in a schema or a `DecodeError`. A decoder has a step for each type and calls itself for
nested types, so recursive schemas are refused, and the size and depth of an expanded schema are limited.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tailrace.codec import schemas
from tailrace.codec.resolution import kind, named_types, problems, short
from tailrace.codec.schemas import Schema
from tailrace.errors import DecodeError

MAX_TEXT: Final = 1 << 20
"""Most characters of a schema."""
MAX_NODES: Final = 10_000
"""Most types in a schema; a referenced type counts once per reference."""
MAX_DEPTH: Final = 9
"""Most levels of nested types."""
PRIMITIVE: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_LOGICAL: Final = frozenset({None, "timestamp-micros", "uuid"})
"""Logical types that do not change a value's meaning for us: times in microseconds, text."""


class _Bad(Exception):
    """A schema is not valid; the text says what is wrong, and where."""


def adopted(text: str) -> tuple[str, Schema]:
    """Converts a schema from outside: expands references, shortens names, removes docs.

    Args:
        text: The schema as JSON.

    Returns:
        The name of our record that it writes, and the converted schema.

    Raises:
        DecodeError: ``wrong_record`` if it is not of one of our records; ``unreadable_schema`` if its records
            cannot be read as ours. The error names the field.
    """
    try:
        if len(text) > MAX_TEXT:
            raise _Bad(f"has {len(text)} characters; at most {MAX_TEXT} are allowed")
        whole = _Unfolded().of(json.loads(text), "", "", 0)
    except _Bad as e:
        raise DecodeError("unreadable_schema", str(e)) from None
    except ValueError:
        raise DecodeError("unreadable_schema", "is not valid JSON") from None
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
    problem = next(problems(whole, ours), None)
    if problem is not None:
        raise DecodeError("unreadable_schema", f"cannot be read as {name}: {problem}")
    shaped: Schema = _Shaping(ours).of(whole, ours, "")
    return name, shaped


def fingerprint(text: str) -> bytes:
    """The fingerprint of the original schema, which is what values carry. Raises `DecodeError`."""
    try:
        return schemas.fingerprint(json.loads(text))
    except Exception as e:  # fastavro raises many types
        raise DecodeError("unreadable_schema", f"has no canonical form: {type(e).__name__}") from None


class _Shaping:
    """Adapts a writer's schema to the reader's types. `problems` must have found it readable."""

    def __init__(self, reader: Schema) -> None:
        self._names = named_types(reader)

    def of(self, w: Any, r: Any, path: str) -> Any:
        """The writer's type, with the reader's choice of string or bytes; both are the same on the wire.

        Raises:
            DecodeError: A logical type would change the meaning of a value.
        """
        if isinstance(w, list):
            return [self.of(branch, r, path) for branch in w]
        r = self._branch(w, r)
        wk, rk = kind(w), kind(r)
        logical = w.get("logicalType") if isinstance(w, dict) else None
        if logical not in _LOGICAL or (logical == "timestamp-micros" and wk != "long"):
            text = f"{path}: logical type {logical} is not supported; use timestamp-micros or text"
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
        """The reader's type for `w`; of a union the branch of the same kind, else the first that fits."""
        if isinstance(r, list):
            readable = [
                b
                for b in (self._names.get(b, b) if isinstance(b, str) else b for b in r)
                if not [*problems(w, b)]
            ]
            r = next((b for b in readable if kind(b) == kind(w)), readable[0])
        return self._names.get(r, r) if isinstance(r, str) else r


class _Unfolded:
    """Copies a schema with every reference replaced by the type that it names."""

    def __init__(self) -> None:
        self._types: dict[str, tuple[Any, int, int]] = {}
        """Full name -> the type, its number of nodes, its height."""
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
            raise _Bad(f'{path or "the schema"}: is not a valid Avro type such as "long"')
        kind = t.get("type")
        if isinstance(kind, (dict, list)):
            return self.of(kind, namespace, path, depth)
        if kind in ("record", "enum", "fixed"):
            return self._definition(t, namespace, path, depth)
        if kind == "array":
            items = self.of(t.get("items"), namespace, f"{path}[]", depth + 1)
            if _takes_no_bytes(items):
                raise _Bad(f"{path}: an array whose items take no bytes, such as nulls, has no bound")
            return {"type": "array", "items": items}
        if kind == "map":
            return {"type": "map", "values": self.of(t.get("values"), namespace, f"{path}[]", depth + 1)}
        if kind in PRIMITIVE:
            return {"type": kind, **_logical_of(t)} if "logicalType" in t else kind
        if isinstance(kind, str):
            return self._reference(kind, namespace, path, depth)
        raise _Bad(f'{path or "the schema"}: is not a valid Avro type such as "long"')

    def _count(self, nodes: int, path: str, depth: int) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, depth)
        if self._nodes > MAX_NODES:
            raise _Bad(f"has more than {MAX_NODES} types once its references are expanded")
        if depth > MAX_DEPTH:
            raise _Bad(f"{path}: more than {MAX_DEPTH} levels of nested types")

    def _reference(self, name: str, namespace: str, path: str, depth: int) -> Any:
        full = f"{namespace}.{name}" if namespace and "." not in name else name
        if full not in self._types and full not in self._open:
            full = name
        if full in self._open:
            raise _Bad(f"{path}: {name} contains itself; recursive types are not supported")
        if full not in self._types:
            raise _Bad(f"{path or 'the schema'}: {name[:100]!r} is not a known Avro type")
        named, nodes, height = self._types[full]
        self._count(nodes, path, depth + height)
        return named

    def _union(self, branches: list[Any], namespace: str, path: str, depth: int) -> list[Any]:
        unfolded = [self.of(b, namespace, path, depth) for b in branches]
        if not 1 <= len(unfolded) <= 63 or any(isinstance(b, list) for b in unfolded):
            raise _Bad(f"{path}: a union must have 1 to 63 types, and no union among them")
        return unfolded

    def _definition(self, t: Schema, namespace: str, path: str, depth: int) -> Schema:
        name, own = t.get("name"), t.get("namespace", namespace)
        if not isinstance(name, str) or not _FULL_NAME.fullmatch(name):
            raise _Bad(f"{path or 'the schema'}: a type without a valid name such as tailrace.v1.Tool")
        if not isinstance(own, str) or (own and not _FULL_NAME.fullmatch(own)):
            raise _Bad(f"{path or name}: its namespace is not valid; must be e.g. tailrace.v1")
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
                raise _Bad(f"{path}: a fixed needs a size of 0 to {MAX_TEXT} bytes")
            return {"size": size, **_logical_of(t)}
        fields: list[Schema] = []
        for field in t["fields"] if isinstance(t.get("fields"), list) else [None]:
            name = field.get("name") if isinstance(field, dict) else None
            valid = isinstance(name, str) and _NAME.fullmatch(name)
            if not valid or not isinstance(field, dict) or any(f["name"] == name for f in fields):
                raise _Bad(f"{path or t['name']}: a field without a valid name, or two with the same name")
            at = f"{path}.{name}".lstrip(".")
            fields.append({"name": name, "type": self.of(field.get("type"), namespace, at, depth + 1)})
        return {"fields": fields}


def _takes_no_bytes(t: Any) -> bool:
    """Whether every value of an unfolded type has 0 bytes: a few bytes could then stand for any number."""
    if isinstance(t, dict) and t["type"] == "record":
        return all(_takes_no_bytes(f["type"]) for f in t["fields"])
    if isinstance(t, dict) and t["type"] == "fixed":
        return bool(t["size"] == 0)
    return not isinstance(t, list) and kind(t) == "null"


def _symbols(symbols: Any, path: str) -> list[str]:
    named = isinstance(symbols, list) and all(isinstance(s, str) and _NAME.fullmatch(s) for s in symbols)
    if not named or not 1 <= len(symbols) <= MAX_NODES or len(set(symbols)) < len(symbols):
        raise _Bad(f"{path}: an enum needs symbols that are valid names, each of them once")
    return list(symbols)


def _logical_of(t: Schema) -> dict[str, str]:
    logical = t.get("logicalType")
    return {"logicalType": logical} if isinstance(logical, str) else {}
