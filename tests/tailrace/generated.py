"""Generated values of any of our schemas, as plain data for fastavro and as records for us."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable, Mapping
from typing import Any

import fastavro
import msgspec
from hypothesis import strategies as st

from tailrace import records
from tailrace.codec import schemas

Schema = dict[str, Any]

LENGTHS = (62, 63, 64, 65, 127, 128, 4095, 4096, 8190, 8191, 8192, 8193, 20_000)
"""Lengths at which the encoding of a string changes."""
INTEGERS = (
    0,
    -1,
    63,
    64,
    -64,
    -65,
    8191,
    8192,
    -8193,
    2**27,
    1_764_000_000_000_000,
    2**55,
    2**62,
    -(2**63),
    2**63 - 1,
)

texts = st.one_of(
    st.text(max_size=8),
    st.builds(lambda c, n: c * n, st.sampled_from("aé€😀"), st.sampled_from(LENGTHS)),
    st.builds(lambda a, b: a + b, st.text(max_size=3), st.sampled_from(["x" * 60, "ö" * 31, "x" * 8188])),
)


def _integers(bits: int) -> st.SearchStrategy[int]:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return st.one_of(st.sampled_from([n for n in INTEGERS if low <= n <= high]), st.integers(low, high))


def _named(t: Any, found: dict[str, Any]) -> None:
    if isinstance(t, list):
        for branch in t:
            _named(branch, found)
    elif isinstance(t, dict):
        if "name" in t and t["type"] in ("enum", "fixed", "record"):
            found[t["name"]] = t
        for key in ("items", "values"):
            _named(t.get(key), found)
        for field in t.get("fields", ()):
            _named(field["type"], found)


def values(t: Any, named: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Plain data of type `t`, as fastavro takes it."""
    if isinstance(t, list):
        return st.one_of(*(values(branch, named) for branch in t))
    if isinstance(t, str) and t in named:
        t = named[t]
    kind = t if isinstance(t, str) else t["type"]
    if kind == "record":
        return record_data(t, named)
    if kind == "array":
        return st.lists(values(t["items"], named), max_size=3)
    if kind == "map":
        return st.dictionaries(texts, values(t["values"], named), max_size=3)
    if kind == "fixed":
        return st.binary(min_size=t["size"], max_size=t["size"])
    if kind == "enum":
        return st.sampled_from(t["symbols"])
    simple: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "null": st.none,
        "boolean": st.booleans,
        "int": lambda: _integers(32),
        "long": lambda: _integers(64),
        "float": lambda: st.floats(width=32, allow_nan=False),
        "double": lambda: st.floats(allow_nan=False),
        "bytes": lambda: st.binary(max_size=80),
        "string": lambda: texts,
    }
    return simple[kind]()


@st.composite
def record_data(draw: st.DrawFn, schema: Schema, named: Mapping[str, Any]) -> dict[str, Any]:
    """A record.

    Fields with a default mostly have it and some are drawn, so that large records are quick to generate.
    """
    optional = [f["name"] for f in schema["fields"] if "default" in f]
    chosen = draw(st.sets(st.sampled_from(optional), max_size=8)) if optional else set()
    return {
        f["name"]: draw(values(f["type"], named))
        if "default" not in f or f["name"] in chosen
        else copy.copy(f["default"])
        for f in schema["fields"]
    }


def data(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    """Plain data of a whole schema."""
    named: dict[str, Any] = {}
    _named(schema, named)
    return record_data(schema, named)


def as_record(schema: Schema, value: Mapping[str, Any]) -> Any:
    """Plain data as the record class of that schema."""

    def convert(t: Any, x: Any) -> Any:
        if isinstance(t, list):
            return None if x is None else convert(t[1], x)
        if isinstance(t, dict):
            if t["type"] == "record":
                return as_record(t, x)
            if t["type"] == "array":
                return [convert(t["items"], y) for y in x]
            if t["type"] == "enum":
                return getattr(records, t["name"])(x)
        if isinstance(t, str) and isinstance(x, Mapping):  # a record that was defined further up
            return records.BY_NAME[t](**x)
        return x

    cls = records.BY_NAME[schema["name"]]
    return cls(**{f["name"]: convert(f["type"], value[f["name"]]) for f in schema["fields"]})


def without_empty(t: Any, value: Any) -> Any:
    """Plain data as events have it: null for an empty text where the type has a null."""
    if isinstance(t, list):
        return None if value == "" or value is None else without_empty(t[1], value)
    if isinstance(t, dict) and t["type"] == "record":
        return {f["name"]: without_empty(f["type"], value[f["name"]]) for f in t["fields"]}
    if isinstance(t, dict) and t["type"] == "array":
        return [without_empty(t["items"], x) for x in value]
    return value


def of(name: str) -> st.SearchStrategy[tuple[dict[str, Any], Any]]:
    """The plain data, and the same as a record, of one of our record types."""
    schema = schemas.current(name)
    return data(schema).map(lambda d: (d, as_record(schema, d)))


def events(**fixed: Any) -> st.SearchStrategy[records.TraceEvent]:
    """Events that can be encoded. `fixed` fields have that value."""
    return of("TraceEvent").map(lambda pair: msgspec.structs.replace(pair[1], **fixed))


@functools.lru_cache(maxsize=64)
def _parsed(text: bytes) -> Any:
    return fastavro.parse_schema(msgspec.json.decode(text))


def parsed(schema: Schema) -> Any:
    """A schema as fastavro needs it, parsed once."""
    return _parsed(msgspec.json.encode(schema))


def written(schema: Schema, value: Mapping[str, Any]) -> bytes:
    """The Avro body that fastavro writes."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed(schema), value)
    return out.getvalue()


def read(writer: Schema, body: bytes, reader: Schema | None = None) -> Any:
    """What fastavro reads."""
    return fastavro.schemaless_reader(io.BytesIO(body), parsed(writer), parsed(reader) if reader else None)
