"""Checks JSON bodies strictly against a vendor's types: pydantic models and typed dictionaries.

Most SDKs accept what their servers don't: unknown keys, other strings where a union of literals with Any is
declared, numbers as text, any text as a time, and some of them nothing at all of a body with camelCase keys
(their names are metadata of the annotations). So keys, required keys, literals, JSON types and times are
checked here, and what else a type wants by the SDK's own parser.

This module knows no SDK. It runs in the SDK's environment, in Python 3.11 and later.
"""

from __future__ import annotations

import datetime
import enum
import functools
import importlib
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pydantic

_QUALIFIERS: Final = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})
_TIMES: Final = (datetime.datetime, datetime.date)
_SCALARS: Final[tuple[type, ...]] = (str, int, float, bool, *_TIMES)


class Alternatives(NamedTuple):
    """What a hint allows, with unions and annotations taken apart."""

    anything: bool
    """Any or object is among them."""
    none: bool
    scalars: frozenset[type]
    literals: frozenset[Any]
    """Members of literals, and values of enums."""
    models: tuple[Any, ...]
    """Pydantic models and typed dictionaries."""
    items: tuple[Any, ...]
    """Hints of the items of lists."""
    values: tuple[Any, ...]
    """Hints of the values of dictionaries with any keys."""
    unknown: bool
    """Something else is among them, which only the SDK's parser knows."""


class Field(NamedTuple):
    hint: Any
    required: bool


def problems(hint: Any, body: Any, allow: Collection[str] = ()) -> list[str]:
    """What is wrong with `body`, as sentences that start with the path.

    Args:
        hint: A type, e.g. a model or a list of models.
        body: JSON-compatible Python.
        allow: Keys that the models may not know.
    """
    return list(_walk((hint,), body, "", frozenset(allow)))


def parsed(hint: Any, body: Any) -> list[str]:
    """What the SDK's own parser says of `body`, or pydantic if the SDK has none."""
    try:
        _exhaust(_parser(hint)(body))
    except (pydantic.ValidationError, TypeError, ValueError) as e:
        return [str(e)]
    return []


# -- the walk
def _walk(hints: tuple[Any, ...], body: Any, where: str, allow: frozenset[str]) -> Iterator[str]:
    allowed = _alternatives(hints)
    if isinstance(body, Mapping):
        yield from _walk_mapping(allowed, body, where, allow)
    elif isinstance(body, list):
        if allowed.items:
            for i, item in enumerate(body):
                yield from _walk(allowed.items, item, f"{where}[{i}]", allow)
        elif not allowed.anything and not allowed.unknown:
            yield f"{where}: is a list"
    else:
        yield from _scalar(allowed, body, where)


def _walk_mapping(
    allowed: Alternatives, body: Mapping[str, Any], where: str, allow: frozenset[str]
) -> Iterator[str]:
    if allowed.models:  # also if any dictionary is allowed beside them: what the vendor names, it reads
        yield from min((list(_walk_model(m, body, where, allow)) for m in allowed.models), key=len)
    elif allowed.values:
        for key, value in body.items():
            yield from _walk(allowed.values, value, f"{where}.{key}", allow)
    elif not allowed.anything and not allowed.unknown:
        yield f"{where}: is an object"


def _walk_model(model: Any, body: Mapping[str, Any], where: str, allow: frozenset[str]) -> Iterator[str]:
    known = _fields(model)
    for key, value in body.items():
        if key in known:
            yield from _walk((known[key].hint,), value, f"{where}.{key}", allow)
        elif key not in allow:
            yield f"{where}.{key}: unknown key"
    for key, field in known.items():
        if field.required and key not in body:
            yield f"{where}.{key}: missing"


def _scalar(allowed: Alternatives, body: Any, where: str) -> Iterator[str]:
    if body is None:
        if not (allowed.none or allowed.anything or allowed.unknown):
            yield f"{where}: is null"
        return
    if _member(allowed.literals, body):
        return
    if allowed.literals and not _fits(allowed.scalars, body):  # Any beside literals does not open the set
        yield f"{where}: {body!r} is not one of {sorted(map(str, allowed.literals))}"
        return
    if isinstance(body, str) and allowed.scalars.intersection(_TIMES):
        if not _is_time(body):
            yield f"{where}: {body!r} is not an ISO 8601 time with a time zone"
        return
    if not (allowed.anything or allowed.unknown or _fits(allowed.scalars, body)):
        yield f"{where}: {body!r} is not {_names(allowed)}"


def _member(literals: frozenset[Any], body: Any) -> bool:
    """Whether a literal is the same and of the same type: 1 is not True."""
    return any(body == literal and type(body) is type(literal) for literal in literals)


def _fits(scalars: frozenset[type], body: Any) -> bool:
    """Whether a JSON value is of one of these types. A whole number is a float too; a bool is no number."""
    kind = type(body)
    return kind in scalars or (kind is int and float in scalars)


def _is_time(text: str) -> bool:
    try:
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _names(allowed: Alternatives) -> str:
    names = sorted(t.__name__ for t in allowed.scalars)
    names += [n for n, v in (("a list", allowed.items), ("an object", allowed.models or allowed.values)) if v]
    return " or ".join(names) or "what is declared"


# -- types
_taken_apart: Final[dict[tuple[int, ...], tuple[tuple[Any, ...], Alternatives]]] = {}
"""By identity, as annotations may be unhashable; with the hints, so that no others get their identity."""


def _alternatives(hints: tuple[Any, ...]) -> Alternatives:
    key = tuple(map(id, hints))
    if key not in _taken_apart:
        _taken_apart[key] = (hints, _take_apart(hints))
    return _taken_apart[key][1]


def _take_apart(hints: tuple[Any, ...]) -> Alternatives:
    scalars: set[type] = set()
    literals: list[Any] = []
    models: list[Any] = []
    items: list[Any] = []
    values: list[Any] = []
    anything = none = unknown = False
    for hint in _flat(hints):
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hint is Any or hint is object:
            anything = True
        elif hint is None or hint is type(None):
            none = True
        elif origin is typing.Literal:
            literals += arguments
        elif _is_model(hint):
            models.append(hint)
        elif isinstance(hint, type) and issubclass(hint, enum.Enum):
            literals += [member.value for member in hint]
        elif hint in _SCALARS:
            scalars.add(hint)
        elif hint is list:
            items.append(Any)
        elif hint is dict:
            values.append(Any)
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            values.append(arguments[1] if len(arguments) == 2 else Any)
        elif (isinstance(origin, type) and issubclass(origin, Iterable)) or _is_sequence(origin):
            items.append(arguments[0] if arguments else Any)
        else:
            unknown = True
    return Alternatives(
        anything,
        none,
        frozenset(scalars),
        frozenset(literals),
        tuple(models),
        tuple(items),
        tuple(values),
        unknown,
    )


def _flat(hints: Sequence[Any]) -> Iterator[Any]:
    """The members of unions, without annotations, aliases and qualifiers."""
    for hint in hints:
        origin = typing.get_origin(hint)
        if origin in (typing.Union, types.UnionType):
            yield from _flat(typing.get_args(hint))
        elif hasattr(hint, "__metadata__"):
            yield from _flat((hint.__origin__,))
        elif _qualifier(hint):
            yield from _flat(typing.get_args(hint))
        elif hasattr(hint, "__value__"):  # type X = …
            yield from _flat((hint.__value__,))
        elif hasattr(hint, "__supertype__"):  # NewType
            yield from _flat((hint.__supertype__,))
        else:
            yield hint


def _qualifier(hint: Any) -> str:
    """Required, NotRequired and the like around a hint, else nothing."""
    name = getattr(typing.get_origin(hint), "_name", None)
    return name if name in _QUALIFIERS else ""


def _is_sequence(origin: Any) -> bool:
    """A protocol of sequences that excludes text, as some SDKs define it."""
    return isinstance(origin, type) and "Sequence" in origin.__name__


def _is_typed_dict(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__required_keys__")


def _is_model(hint: Any) -> bool:
    return _is_typed_dict(hint) or (isinstance(hint, type) and issubclass(hint, pydantic.BaseModel))


def _optional(hints: Mapping[str, Any]) -> frozenset[str]:
    """The keys that are declared as not required. __required_keys__ has them if annotations are text."""
    return frozenset(name for name, hint in hints.items() if _qualifier(hint) == "NotRequired")


@functools.cache
def _fields(model: Any) -> dict[str, Field]:
    """Key in JSON -> field."""
    hints = typing.get_type_hints(model, include_extras=True)
    if _is_typed_dict(model):
        return {
            wire_name(name, hint): Field(
                hint, _qualifier(hint) == "Required" or name in model.__required_keys__ - _optional(hints)
            )
            for name, hint in hints.items()
        }
    return {
        wire_name(name, hints[name], field.alias): Field(hints[name], field.is_required())
        for name, field in model.model_fields.items()
    }


def wire_name(name: str, hint: Any, alias: str | None = None) -> str:
    """The key of a field in JSON: an alias in the annotation's metadata, pydantic's, or the field's name."""
    for part in _parts(hint):
        found = getattr(part, "alias", None)
        if isinstance(found, str):
            return found
    return alias or name


def _parts(hint: Any) -> Iterator[Any]:
    """A hint and everything in it, with metadata."""
    yield hint
    for inner in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from _parts(inner)


# -- the SDK's own parser
def _exhaust(found: Any) -> None:
    """Reads the iterators in what a parser returns: pydantic checks an iterable only when it is read."""
    if isinstance(found, Mapping):
        for value in found.values():
            _exhaust(value)
    elif isinstance(found, list | tuple | Iterator):
        for value in found:
            _exhaust(value)


@functools.cache
def _parser(hint: Any) -> Callable[[Any], Any]:
    """The SDK's parser, which knows its aliases, if it has one; else pydantic's."""
    package = str(getattr(hint, "__module__", "")).partition(".")[0]
    for name in (f"{package}.api.core.pydantic_utilities", f"{package}.rest_api.core.pydantic_utilities"):
        try:
            own: Callable[[Any, Any], Any] = importlib.import_module(name).parse_obj_as
        except ImportError:
            continue
        return functools.partial(own, hint)
    return pydantic.TypeAdapter(hint).validate_python
