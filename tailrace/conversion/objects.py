"""Looks at objects and classes without calling their code: no property, no `__getattr__`, no `repr`. Pure."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from tailrace.conversion.text import sound

_NAME_LENGTH: Final = 200
mro: Final[Callable[[type], tuple[type, ...]]] = type.__dict__["__mro__"].__get__
class_dict: Final[Callable[[type], Mapping[str, Any]]] = type.__dict__["__dict__"].__get__
qualname: Final[Callable[[type], Any]] = type.__dict__["__qualname__"].__get__
_module: Final[Callable[[type], Any]] = type.__dict__["__module__"].__get__
MISSING: Final = object()


def type_name(t: type) -> str:
    """The name of a class, with its module unless that is builtins."""
    module, name = _module(t), qualname(t)
    text = str.__str__(name) if issubclass(type(name), str) else "object"
    if type(module) is str and module != "builtins":
        text = f"{module}.{text}"
    return sound(text[:_NAME_LENGTH])


def of_class(t: type, name: str) -> Any:
    """An attribute of a class or its bases, as it is written there; None if there is none."""
    for base in mro(t):
        found = class_dict(base).get(name, MISSING)
        if found is not MISSING:
            return found
    return None


def instance_dict(value: object) -> dict[str, Any]:
    for base in mro(type(value)):
        found: Any = class_dict(base).get("__dict__")
        if type(found) in (types.GetSetDescriptorType, types.MemberDescriptorType):
            held = found.__get__(value)
            return held if type(held) is dict else {}
        if found is not None:  # a property of that name
            break
    return {}


def attribute(value: object, name: str) -> Any:
    """An instance's own attribute, or a slot; `MISSING` if it is neither. Properties are not called."""
    slot = of_class(type(value), name)
    if type(slot) is types.MemberDescriptorType:
        try:
            return slot.__get__(value)
        except AttributeError:  # not set
            return MISSING
    return instance_dict(value).get(name, MISSING)
