"""Checks JSON bodies strictly against a vendor's pydantic models. Runs alone in the vendor's environment.

    python strict.py < checks.jsonl        # {"model": "package.module:Name", "body": …, "allow": […]} a line

Prints a JSON list of errors for each line. The models alone accept unknown keys, unknown members of some
enums (unions with Any), and some of them every camelCase key. So keys and literals are checked here, types
by pydantic.
"""

import enum
import importlib
import json
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pydantic


def wire_name(name: str, hint: Any, field: Any) -> str:
    """The key of a field in JSON: an alias in the annotation's metadata, or pydantic's."""
    for part in parts(hint):
        alias = getattr(part, "alias", None)
        if isinstance(alias, str):
            return alias
    return str(field.alias or name)


def parts(hint: Any) -> Iterator[Any]:
    """A type hint and everything in it, with metadata."""
    yield hint
    for inner in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from parts(inner)


def models(hint: Any) -> list[type[pydantic.BaseModel]]:
    return [p for p in parts(hint) if isinstance(p, type) and issubclass(p, pydantic.BaseModel)]


def literals(hint: Any) -> set[Any]:
    found: set[Any] = set()
    for part in parts(hint):
        if typing.get_origin(part) is typing.Literal:
            found.update(typing.get_args(part))
        elif isinstance(part, type) and issubclass(part, enum.Enum):
            found.update(member.value for member in part)
    return found


def walk(hint: Any, body: Any, where: str, allow: list[str]) -> Iterator[str]:
    """Errors of keys and literals below `body`."""
    if isinstance(body, list):
        for i, item in enumerate(body):
            yield from walk(hint, item, f"{where}[{i}]", allow)
        return
    candidates = models(hint)
    if isinstance(body, dict) and candidates:
        every = [list(walk_model(model, body, where, allow)) for model in candidates]
        yield from min(every, key=len)
    elif isinstance(body, str) and literals(hint) and str not in parts(hint) and body not in literals(hint):
        yield f"{where}: {body!r} is not one of {sorted(map(str, literals(hint)))}"


def walk_model(
    model: type[pydantic.BaseModel], body: dict[str, Any], where: str, allow: list[str]
) -> Iterator[str]:
    hints = typing.get_type_hints(model, include_extras=True)
    known = {wire_name(n, hints[n], f): hints[n] for n, f in model.model_fields.items()}
    for key, value in body.items():
        if key in known:
            yield from walk(known[key], value, f"{where}.{key}", allow)
        elif key not in allow:
            yield f"{where}.{key}: unknown key"


def check(model: str, body: Any, allow: list[str]) -> list[str]:
    module, _, name = model.partition(":")
    hint = getattr(importlib.import_module(module), name)
    found = list(walk(hint, body, "", allow))
    try:
        parse(module)(hint, body)
    except (pydantic.ValidationError, TypeError, ValueError) as e:
        found.append(str(e))
    return found


def parse(module: str) -> Callable[[Any, Any], Any]:
    """Parses with the SDK's own parser, which knows its aliases, if it has one."""
    package = module.split(".", maxsplit=1)[0]
    for name in (f"{package}.api.core.pydantic_utilities", f"{package}.rest_api.core.pydantic_utilities"):
        try:
            found: Callable[[Any, Any], Any] = importlib.import_module(name).parse_obj_as
            return found
        except ImportError:
            continue
    return lambda hint, body: pydantic.TypeAdapter(hint).validate_python(body)


for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(check(asked["model"], asked["body"], asked["allow"])))
