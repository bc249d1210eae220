"""Handlers of classes that declare their fields: msgspec, dataclasses, attrs, pydantic. Pure."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Final

import msgspec

from tailrace.conversion.objects import attribute, instance_dict, mro, of_class, qualname, type_name
from tailrace.conversion.pydantic_core import replaced_fields
from tailrace.conversion.walk import Conversion, Handler


def _struct(c: Conversion, value: msgspec.Struct, depth: int) -> Any:
    t = type(value)
    return c.fields(value, zip(t.__struct_fields__, t.__struct_encode_fields__, strict=True), depth)


@functools.lru_cache(maxsize=512)
def by_fields(t: type) -> Handler | None:
    """The handler of a class with declared fields; None for any other class.

    What a class keeps out of its repr or its serialised form is left out, and so is what it names as private.
    """
    if issubclass(t, msgspec.Struct):
        return _struct
    if any(type_name(base) in _MODELS for base in mro(t)):
        return None if _serializes_itself(t) else _model(_pydantic_fields(t))
    if type(of_class(t, "__dataclass_fields__")) is dict:
        declared: Any = t
        names = [f.name for f in dataclasses.fields(declared) if f.repr]
        if type(of_class(t, "__pydantic_fields__")) is dict:
            if _serializes_itself(t):
                return None
            shown = _pydantic_fields(t)
            names = [n for n in names if n in shown]
        return _fielded(names)
    attributes = of_class(t, "__attrs_attrs__")
    if attributes is not None and issubclass(type(attributes), tuple):
        return _fielded([a.name for a in attributes if a.repr is True])
    return None


def _fielded(names: list[str]) -> Handler:
    shown = [(n, n) for n in names if not n.startswith("_")]
    return lambda c, value, depth: c.fields(value, shown, depth)


_MODELS: Final = frozenset({"pydantic.main.BaseModel", "pydantic.v1.main.BaseModel"})


def _model(names: list[str]) -> Handler:
    """The handler of a pydantic model, which may have fields that its class does not declare."""

    def convert(c: Conversion, value: Any, depth: int) -> Any:
        more = attribute(value, "__pydantic_extra__")
        held = instance_dict(value)
        given = {n: held[n] for n in names if n in held} | (more if type(more) is dict else {})
        pairs = [(n, x) for n, x in given.items() if not n.startswith("_")]
        c.converted += 1
        return c.pairs(iter(pairs), len(pairs), depth)

    return convert


def _pydantic_fields(t: type) -> list[str]:
    """The fields of a pydantic class that it shows as they are."""
    for name in ("__pydantic_fields__", "model_fields", "__fields__"):  # since 2.10, since 2.0, before
        fields = of_class(t, name)
        if type(fields) is dict:
            break
    else:
        return []
    own = of_class(t, "__pydantic_decorators__")
    serialised = {f for d in getattr(own, "field_serializers", {}).values() for f in d.info.fields}
    core = of_class(t, "__pydantic_core_schema__")
    replaced = replaced_fields(core) if type(core) is dict else frozenset[str]()
    found = []
    for name, field in fields.items():
        info: Any = getattr(field, "field_info", field)
        given = any("Serializer" in qualname(type(m)) for m in getattr(info, "metadata", ()))
        hidden = not info.repr or info.exclude or getattr(info, "exclude_if", None) is not None
        if not hidden and not given and not serialised & {name, "*"} and name not in replaced:
            found.append(name)
    return found


def _serializes_itself(t: type) -> bool:
    """Whether a pydantic class decides as a whole what its serialised form has."""
    return bool(getattr(of_class(t, "__pydantic_decorators__"), "model_serializers", None))
