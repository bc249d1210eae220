"""Every TraceEvent and TraceContext that the schemas allow, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tailrace import records
from tailrace.codec import schemas
from tailrace.records import TraceContext, TraceEvent

_NAMED: dict[str, Any] = {}


def _strategy(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.one_of(*(_strategy(k) for k in kind))
    if isinstance(kind, str):
        if kind in _NAMED:
            return _strategy(_NAMED[kind])
        simple: dict[str, st.SearchStrategy[Any]] = {
            "null": st.none(),
            "string": st.text(max_size=20),
            "boolean": st.booleans(),
            "bytes": st.binary(max_size=20),
            "int": st.integers(-(2**31), 2**31 - 1),
            "long": st.integers(-(2**63), 2**63 - 1),
            "double": st.floats(allow_nan=False, allow_infinity=False),
        }
        return simple[kind]
    if kind["type"] in ("enum", "fixed", "record"):
        _NAMED[kind["name"]] = kind
    match kind["type"]:
        case "enum":
            return st.sampled_from(kind["symbols"])
        case "fixed":
            return st.binary(min_size=kind["size"], max_size=kind["size"])
        case "array":
            return st.lists(_strategy(kind["items"]), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=10), _strategy(kind["values"]), max_size=3)
        case "record":
            return _record(kind)
        case inner:
            return _strategy(inner)


def _record(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    fields = {f["name"]: _strategy(f["type"]) for f in schema["fields"]}
    return st.builds(getattr(records, schema["name"]), **fields)


contexts: st.SearchStrategy[TraceContext] = _record(schemas.current("TraceContext"))
events: st.SearchStrategy[TraceEvent] = _record(schemas.current("TraceEvent"))
