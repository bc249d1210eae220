"""The mapping idiom of all sinks: a table maps fields of an event to attributes of a vendor.

A table is compiled once, at import, to a plan that appends a record's attributes to a list of bytes:

    NODE = (
        Row("dify.app_id", "app_id or context.app_id"),
        Row("dify.node.id", "node_execution.node_id"),
        Row("dify.node.elapsed_time", elapsed, SECONDS),
    )
    PLAN = plan(NODE, WireAttribute)

    PLAN.write(RecordValues(event, context), out)

A path is a field of `TraceEvent`, of one of its bodies (`tool.call_id`), or of the context
(`context.app_id`). Of several paths joined by `or`, the first with a value counts. A path that does not
exist raises TypeError at import. A value that is not a field comes from a function of event and context.
Where several attributes depend on each other, ordinary code writes them with a `Key`.

A `Key` writes values in one encoding: those in `connectors.mapping.attributes` for OTLP, those in
`connectors.mapping.members` for JSON. Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, final, get_args, get_origin, get_type_hints

from msgspec.structs import astuple

from tailrace.records import TraceContext, TraceEvent

BY_TYPE: Final = 0
"""The form of the field's type; for a function: text."""
TEXT: Final = 1
INTEGER: Final = 2
FLAG: Final = 3
TEXTS: Final = 4
"""A sequence of texts; an empty one is left out."""
JSON: Final = 5
"""Content: a text that is usually JSON."""
SECONDS: Final = 6
"""Microseconds, written as seconds."""
ENCODED: Final = 7
"""Bytes from a function: UTF-8 text, or JSON if the encoding is JSON."""

Function = Callable[[TraceEvent, TraceContext], Any]
Convert = Callable[[Any], "str | None"]


class Row(NamedTuple):
    """One attribute of a vendor."""

    name: str
    value: str | Function
    """Paths joined by ` or `, or a function of event and context. A None is not written."""
    form: int | Convert = BY_TYPE
    """How the value is written: one of the constants above, or a function from the value to a text."""
    empty: bool = True
    """Whether an empty text or 0 is written."""


Table = tuple[Row, ...]


class Key(ABC):
    """An attribute's name in one encoding. Its methods append the name with a value to `out`."""

    @abstractmethod
    def text(self, out: list[bytes], value: str) -> None: ...

    def optional(self, out: list[bytes], value: str | None) -> None:
        """As `text`; writes nothing for None."""
        if value is not None:
            self.text(out, value)

    @abstractmethod
    def integer(self, out: list[bytes], value: int) -> None: ...

    @abstractmethod
    def flag(self, out: list[bytes], value: bool) -> None: ...

    @abstractmethod
    def texts(self, out: list[bytes], value: Sequence[str]) -> None:
        """Writes a sequence that is not empty."""

    @abstractmethod
    def json(self, out: list[bytes], text: str) -> None: ...

    @abstractmethod
    def seconds(self, out: list[bytes], microseconds: int) -> None: ...

    @abstractmethod
    def encoded(self, out: list[bytes], data: bytes) -> None:
        """Writes UTF-8 text, or JSON if the encoding is JSON."""


def _struct(hint: Any) -> Any:
    """The struct class in a field's type; None if there is none."""
    return next((k for k in get_args(hint) or (hint,) if hasattr(k, "__struct_fields__")), None)


_EVENT: Final = -1
_CONTEXT: Final = -2
_ANY: Final = -3
_HINTS: Final = {"": get_type_hints(TraceEvent), "context": get_type_hints(TraceContext)}
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "": TraceEvent.__struct_fields__,
    "context": TraceContext.__struct_fields__,
}
_PLACES: Final[dict[str, int]] = {"": _EVENT, "context": _CONTEXT}
"""First part of a path -> position of that body in `TraceEvent`, or `_EVENT` or `_CONTEXT`."""
for _position, _name in enumerate(TraceEvent.__struct_fields__):
    if (_body := _struct(_HINTS[""][_name])) is not None:
        _HINTS[_name], _FIELDS[_name] = get_type_hints(_body), _body.__struct_fields__
        _PLACES[_name] = _position


@final
class RecordValues:
    """One record as plans read it: its values by position, which is faster than reading them by name."""

    def __init__(self, event: TraceEvent, context: TraceContext) -> None:
        self.event: Final = event
        self.context: Final = context
        self.event_values: Final[tuple[Any, ...]] = astuple(event)
        self.context_values: Final[tuple[Any, ...]] = astuple(context)


@final
class _Path:
    def __init__(self, place: int, field: str, index: int) -> None:
        self.place: Final = place
        self.field: Final = field
        self.index: Final = index

    def value(self, source: RecordValues) -> Any:
        if self.place == _EVENT:
            return source.event_values[self.index]
        if self.place == _CONTEXT:
            return source.context_values[self.index]
        body = source.event_values[self.place]
        return None if body is None else getattr(body, self.field)


@final
class _Step:
    """A row, compiled."""

    def __init__(
        self,
        row: Row,
        key: Key,
        form: int,
        convert: Convert | None,
        paths: Sequence[_Path],
        empty: bool,
    ) -> None:
        self.name: Final[str] = row.name
        self.key: Final = key
        self.form: Final = form
        self.convert: Final = convert
        self.function: Final[Function | None] = None if isinstance(row.value, str) else row.value
        self.paths: Final[list[_Path]] = list(paths)
        simple = len(paths) == 1 and convert is None
        self.place: Final[int] = paths[0].place if simple else _ANY
        """Where its value is; `_ANY`: call `value`."""
        self.index: Final[int] = paths[0].index if simple else 0
        self.empty: Final = empty

    def value(self, source: RecordValues) -> Any:
        function = self.function
        raw: Any = None
        if function is not None:
            raw = function(source.event, source.context)
        else:
            for path in self.paths:
                raw = path.value(source)
                if raw:
                    break
        convert = self.convert
        return raw if convert is None or raw is None else convert(raw)

    def write(self, value: Any, out: list[bytes]) -> None:
        """Writes a value that is not None."""
        if not (self.empty or value):
            return
        form = self.form
        if form == TEXT:
            self.key.text(out, value)
        elif form == INTEGER:
            self.key.integer(out, value)
        elif form == TEXTS:
            self.key.texts(out, value)
        elif form == JSON:
            self.key.json(out, value)
        elif form == SECONDS:
            self.key.seconds(out, value)
        elif form == FLAG:
            self.key.flag(out, value)
        else:
            self.key.encoded(out, value)


@final
class _Run:
    """Consecutive steps that read the same place."""

    def __init__(self, place: int) -> None:
        self.place: Final = place
        self.steps: Final[list[_Step]] = []


@final
class Plan:
    """A table, compiled for one encoding."""

    def __init__(self, steps: Sequence[_Step]) -> None:
        self._steps: Final[list[_Step]] = list(steps)
        self._runs: Final[list[_Run]] = []
        for step in steps:
            if not self._runs or self._runs[-1].place != step.place:
                self._runs.append(_Run(step.place))
            self._runs[-1].steps.append(step)
        self._names: Final = frozenset(step.name for step in steps)

    def write(self, source: RecordValues, out: list[bytes]) -> None:
        """Appends the attributes that have a value, in the table's order. Raises what the keys raise."""
        for run in self._runs:
            place = run.place
            if place == _ANY:
                for step in run.steps:
                    value = step.value(source)
                    if value is not None:
                        step.write(value, out)
                continue
            if place == _EVENT:
                values = source.event_values
            elif place == _CONTEXT:
                values = source.context_values
            else:
                body = source.event_values[place]
                if body is None:
                    continue
                values = astuple(body)
            for step in run.steps:
                value = values[step.index]
                if value is not None:
                    step.write(value, out)

    def write_instead(self, source: RecordValues, out: list[bytes], text: str) -> None:
        """Appends `text` instead of the value, for each attribute that has a value."""
        for step in self._steps:
            if step.value(source) is not None:
                step.key.text(out, text)

    def has(self, name: str, source: RecordValues) -> bool:
        """Whether the attribute `name` would be written."""
        if name not in self._names:
            return False
        for step in self._steps:
            if step.name == name:
                value = step.value(source)
                if value is not None and (value or step.empty):
                    return True
        return False


_KEYS: Final[dict[tuple[Any, str], Key]] = {}


def plan(table: Table, encoding: Callable[[str], Key], prefix: str = "", empty_texts: bool = True) -> Plan:
    """Compiles a table.

    Args:
        table: The rows.
        encoding: Makes a `Key` from a name, for example `WireAttribute`.
        prefix: Put before each name.
        empty_texts: Whether empty texts may be written. False overrides the rows.

    Raises:
        TypeError: A path does not exist, or its type has no form.
    """
    steps = []
    for row in table:
        key = _KEYS.get((encoding, prefix + row.name))
        if key is None:
            key = _KEYS[encoding, prefix + row.name] = encoding(prefix + row.name)
        texts = _texts(row)
        form, convert = _form(row, {_form_of(row, text) for text in texts})
        empty = row.empty and form != TEXTS and (empty_texts or form not in (TEXT, JSON))
        steps.append(_Step(row, key, form, convert, [_path(text) for text in texts], empty))
    return Plan(steps)


def _texts(row: Row) -> list[str]:
    return row.value.split(" or ") if isinstance(row.value, str) else []


def _path(text: str) -> _Path:
    where, _, field = text.rpartition(".")
    return _Path(_PLACES[where], field, _FIELDS[where].index(field))


def _form_of(row: Row, text: str) -> int:
    """The form of a path's value, by the field's type."""
    where, _, field = text.rpartition(".")
    if where not in _FIELDS or field not in _FIELDS[where]:
        raise TypeError(
            f"{row.name}: neither TraceEvent nor its context has a field {text}; use a path such as app_id, "
            "tool.call_id or context.app_id"
        )
    hint = _HINTS[where][field]
    if hint is Any:  # content
        return JSON
    if get_origin(hint) is Sequence:
        return TEXTS
    kinds = [k for k in get_args(hint) or (hint,) if k is not type(None)]
    if len(kinds) == 1 and isinstance(kinds[0], type):
        for of_type, form in ((bool, FLAG), (int, INTEGER), (str, TEXT)):
            if issubclass(kinds[0], of_type):
                return form
    return BY_TYPE


def _form(row: Row, by_type: set[int]) -> tuple[int, Convert | None]:
    """A row's form, and the function that converts its value to a text, if it has one."""
    if not isinstance(row.form, int):
        return TEXT, row.form
    if row.form != BY_TYPE:
        return row.form, None
    if not by_type:
        return TEXT, None
    if len(by_type) > 1 or BY_TYPE in by_type:
        raise TypeError(
            f"{row.name}: the types of {row.value} have no common form; give the row a form, e.g. TEXT"
        )
    return by_type.pop(), None


def fields_of(*tables: Table) -> frozenset[str]:
    """Fields of `TraceEvent` that the paths of tables read. Fields that functions read are not included."""
    places = [path.rpartition(".") for table in tables for row in table for path in _texts(row)]
    return frozenset((where or field) for where, _, field in places) - {"context"}


def names_of(*tables: Table) -> frozenset[str]:
    """Names of all attributes in the tables."""
    return frozenset(row.name for table in tables for row in table)
