"""Rules for new versions of a schema, beyond Avro's schema resolution. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailrace.codec.resolution import kind, named_types, problems, short


def broken(old: Any, new: Any) -> Iterator[str]:
    """One sentence for each change that breaks old readers or old records.

    Each version must be able to read the other, and nothing may be removed, even if a default would
    hide it.
    """
    for problem in problems(old, new):
        yield f"the new version cannot read the old one: {problem}"
    for problem in problems(new, old):
        yield f"the old version cannot read the new one: {problem}"
    now = {short(n): t for n, t in named_types(new).items()}
    for name, was in {short(n): t for n, t in named_types(old).items()}.items():
        if name not in now:
            yield f"{name}: was removed; a name that was written must stay"
        elif kind(was) == kind(now[name]) == "enum":
            yield from _enum(name, was, now[name])
        elif kind(was) == kind(now[name]) == "record":
            yield from _record(name, was, now[name])
    yield from _header(old, new)


def _enum(name: str, was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    if now["symbols"][: len(was["symbols"])] != was["symbols"]:
        yield (
            f"{name}: symbols were {', '.join(was['symbols'])}; "
            "they must stay, in this order, and new ones must follow them"
        )
    if was.get("default") != now.get("default"):
        yield f"{name}: the default was {was.get('default')}, is {now.get('default')}"


def _record(name: str, was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    fields = {f["name"]: f for f in now["fields"]}
    for field in was["fields"]:
        at = f"{name}.{field['name']}"
        found = fields.get(field["name"])
        if found is None:
            yield f"{at}: was removed or renamed; stop filling it, but keep it"
        elif "default" in field and "default" not in found:
            yield f"{at}: lost its default"
        elif "default" in field and found["default"] != field["default"]:
            yield f"{at}: the default was {field['default']!r}, is {found['default']!r}"
        elif _logical(field["type"]) != _logical(found["type"]):
            yield f"{at}: the logical type was {_logical(field['type'])}, is {_logical(found['type'])}"


def _logical(t: Any) -> str | None:
    """The logical type of a field, or of a branch of its union."""
    if isinstance(t, list):
        return next((found for branch in t if (found := _logical(branch))), None)
    return t.get("logicalType") if isinstance(t, dict) else None


def _header(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    before, after = _prefix(old), set(_prefix(new))
    for name in before:
        if name not in after:
            yield f"{name}: was in the header (up to header_last), where readers that stop there look for it"


def _prefix(schema: dict[str, Any]) -> list[str]:
    """Names of the fields up to header_last; empty if the schema has no header."""
    names = [f["name"] for f in schema["fields"]]
    last = schema.get("header_last")
    return names[: names.index(last) + 1] if last in names else []
