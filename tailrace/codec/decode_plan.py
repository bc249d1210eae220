"""Compiles an Avro schema to the table that `tailrace.codec.table_decoder` walks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from tailrace.codec import table_decoder as table
from tailrace.codec.record_builder import RecordBuilder
from tailrace.codec.table_decoder import Step

_SIMPLE: Final = {
    "null": (table.NULL, 0),
    "boolean": (table.BOOLEAN, 1),
    "int": (table.INTEGER, 0),
    "long": (table.INTEGER, 0),
    "float": (table.FLOAT, 4),
    "double": (table.DOUBLE, 8),
    "string": (table.STRING, 0),
    "bytes": (table.STRING, 0),
}
"""Primitive type -> kind of its step, and its size in bytes if that is fixed."""


class Planner:
    """Makes the steps of one schema."""

    def __init__(
        self,
        want: Iterable[str] | None,
        text: bool,
        build: Mapping[str, Any],
        required: Collection[str] | None = None,
    ) -> None:
        """Arguments as for `tailrace.codec.decoder.decoder_for`."""
        self.paths: list[str] = []
        """After `top`: the paths of the results, in order."""
        self._want = None if want is None else frozenset(want)
        self._required = required
        self._text, self._build, self._names = text, build, _NamedTypes()

    def top(self, schema: Mapping[str, Any], last: str | None) -> list[Step]:
        """The steps of the schema's fields.

        Args:
            schema: The schema of a record.
            last: Name of the last field to include; None: all fields.
        """
        steps: list[Step] = []
        self._fields(dict(schema), "", last, steps)
        return steps

    def _fields(self, t: dict[str, Any], prefix: str, last: str | None, steps: list[Step]) -> None:
        self._names.learn(t)
        for field in t["fields"]:
            path, kind = prefix + field["name"], field["type"]
            if self._want is None or path in self._want:
                step = self._step(kind, True)
                if self._required is not None and path not in self._required:
                    _read_empty_as_null(step)
                steps.append(step)
                self.paths.append(path)
            elif any(w.startswith(path + ".") for w in self._want) and (inner := self._names.nested(kind)):
                steps.append(self._inside(inner, _record_branch(kind), path))
            else:
                _append_skipped(steps, self._step(kind, False))
            if field["name"] == last and not prefix:
                return

    def _inside(self, inner: dict[str, Any], branch: int | None, path: str) -> Step:
        step, before = Step(table.INSIDE, True), len(self.paths)
        self._fields(inner, path + ".", None, step.steps)
        step.nullable, step.results = branch is not None, len(self.paths) - before
        step.null = 2 if branch == 0 else 0
        return step

    def _step(self, t: Any, want: bool) -> Step:
        if isinstance(t, list):
            return self._union(t, want)
        if isinstance(t, str) and t not in _SIMPLE:
            t = self._names.find(t)
        kind = t if isinstance(t, str) else t["type"]
        if isinstance(kind, (dict, list)):
            return self._step(kind, want)
        if isinstance(t, dict) and kind in ("enum", "fixed", "record"):
            self._names.learn(t)
        if kind in _SIMPLE:
            number, size = _SIMPLE[kind]
            step = Step(table.TEXT if kind == "string" and self._text else number, want)
            step.size = size
        elif kind == "fixed":
            step = Step(table.FIXED, want)
            step.size = int(t["size"])
        elif kind == "enum":
            step = Step(table.ENUM, want)
            make = self._build.get(t["name"].rsplit(".", 1)[-1], str)
            step.symbols = [make(s) for s in t["symbols"]]
        elif kind == "array":
            step = Step(table.ARRAY, want)
            step.steps = [self._step(t["items"], want)]
        elif kind == "map":
            step = Step(table.MAP, want)
            step.steps = [self._step("string", want), self._step(t["values"], want)]
        elif kind == "record":
            step = self._record(t, want)
        else:
            raise ValueError(f"unknown Avro type {t!r}; must be e.g. long, string or a record")
        return step

    def _record(self, t: dict[str, Any], want: bool) -> Step:
        step = Step(table.RECORD, want)
        known = self._build.get(t["name"].rsplit(".", 1)[-1])
        names: list[str] = []
        for field in t["fields"]:
            keep = want and (known is None or field["name"] in known.__struct_fields__)
            inner = self._step(field["type"], keep)
            if keep:
                step.steps.append(inner)
                names.append(field["name"])
            else:
                _append_skipped(step.steps, inner)
        if want:
            step.builder = RecordBuilder(known or dict, names)
        return step

    def _union(self, branches: list[Any], want: bool) -> Step:
        if len(branches) > 63:
            raise ValueError(f"a union has {len(branches)} branches; at most 63 are supported")
        steps = [self._step(b, want) for b in branches]
        if (
            branches[0] == "null"
            and len(branches) == 2
            and not steps[1].nullable
            and steps[1].kind != table.UNION
        ):
            steps[1].nullable = True
            return steps[1]
        step = Step(table.UNION, want)
        step.steps = steps
        return step


def _append_skipped(steps: list[Step], step: Step) -> None:
    """Appends the step of a field that is skipped, unless its values have 0 bytes: there is nothing to skip.

    A foreign record may have thousands of such fields, and an array thousands of such records.
    """
    nothing = step.kind == table.NULL or (step.kind == table.FIXED and step.size == 0)
    if step.nullable or not (nothing or (step.kind == table.RECORD and not step.steps)):
        steps.append(step)


class _NamedTypes:
    """The named types of one schema, by full and by short name."""

    def __init__(self) -> None:
        self._types: dict[str, dict[str, Any]] = {}

    def learn(self, t: dict[str, Any]) -> None:
        self._types[t["name"]] = t
        self._types[t["name"].rsplit(".", 1)[-1]] = t

    def find(self, name: str) -> dict[str, Any]:
        return self._types[name] if name in self._types else self._types[name.rsplit(".", 1)[-1]]

    def nested(self, kind: Any) -> dict[str, Any] | None:
        """The record in `kind`, which may be a nullable union of one; None if it is not a record."""
        inner = kind
        if isinstance(kind, list):
            inner = kind[_record_branch(kind) or 0] if len(kind) == 2 and "null" in kind else None
        if isinstance(inner, str) and inner not in _SIMPLE:
            inner = self.find(inner)
        return inner if isinstance(inner, dict) and inner["type"] == "record" else None


def _read_empty_as_null(step: Step) -> None:
    """Empty texts, and fixed values of zeros, are null from now on, except inside arrays and maps."""
    if step.kind in (table.STRING, table.TEXT, table.FIXED):
        step.empty_is_null = True
        step.zeros = bytes(step.size)
    elif step.kind in (table.RECORD, table.UNION):
        for inner in step.steps:
            _read_empty_as_null(inner)


def _record_branch(kind: Any) -> int | None:
    """Index of the branch that is not null in a union of two; None if it is not a union."""
    return int(kind[0] == "null") if isinstance(kind, list) else None
