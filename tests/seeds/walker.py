"""A seed's tables as YAML, and whether a sink's payloads are what they say: both ways.

One file a vendor sink, `tests/seeds/<sink>.yaml`:

    seed: "001"
    sink: connectors.sinks.langfuse:Langfuse        # module:class
    settings: {public_key: pk, secret_key: sk}      # of the instance that renders
    kinds:
      workflow_run:
        row:                                        # the seed's lists, named as in fields.toml: row, info,
        metadata, span, log
          - {field: inputs, target: input, at: "attributes[langfuse.observation.input]", from: event.inputs}
    unmapped:                                       # the seed's fields that are not sent
      workflow_run: {info: {workflow node executions: "each is an event of its own"}}
    beyond:                                         # what is sent besides; by kind, several with commas, or
    every
      "message, tool":
        - {at: traceId, from: context.message_trace_id, as: hex, reason: the vendor needs one}

A row's value is `value` (a literal), `rule` (a function of the record, by name) or `from` (a dotted path from
`event` or `context`; "a | b" is the first that is not empty), then `as` (a conversion, by name). None means
that the record has no such field: then nothing may be at the path. `at` is a path in the rendered payload, or
several that must all have the value: keys separated by dots, keys with dots in brackets, list positions in
brackets; OTLP attribute lists read as mappings. `when` names a rule that says whether the row applies. A
claimed path claims what is below it.

Rules and conversions are those of `tests/seeds/rules.py` and, if there is one, of
`tests/seeds/<sink>_rules.py` (RULES, CONVERSIONS)."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
import yaml

from connectors.sdk.contract import Enriched, Payload
from tailrace.records import BY_NAME, Content
from tests.seeds import rules
from tests.seeds.tables import Fields, fields

FOLDER: Final = Path(__file__).parent
EVERY: Final = "every"
_SEGMENT: Final = re.compile(r"\[([^\]]*)\]|([^.\[]+)")
MISSING: Final = object()
"""What is at a path where nothing is."""
Rule = Callable[[Enriched], Any]
Where = tuple[str, ...]


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One field of a list, or one value that is sent beyond them."""

    at: str | list[str]
    field: str = ""
    """As the seed writes it."""
    target: str = ""
    """The vendor's name in the seed's table."""
    source: str = msgspec.field(default="", name="from")
    value: Any = None
    rule: str = ""
    convert: str = msgspec.field(default="", name="as")
    when: str = ""
    note: str = ""
    reason: str = ""
    """Of what is beyond the seed: why."""

    @property
    def paths(self) -> list[Where]:
        return [path(p) for p in ([self.at] if isinstance(self.at, str) else self.at)]

    @property
    def checked(self) -> bool:
        """Whether it says what the value must be."""
        return self.value is not None or bool(self.rule or self.source)


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seed: str
    sink: str
    kinds: dict[str, dict[str, list[Row]]]
    settings: dict[str, Any] = {}
    unmapped: dict[str, dict[str, dict[str, str]]] = {}
    beyond: dict[str, list[Row]] = {}


class Seed:
    """One sink's document, with its sink and its rules."""

    def __init__(self, file: Path) -> None:
        self.name = file.stem
        self.document = msgspec.convert(yaml.safe_load(file.read_text(encoding="utf-8")), Document)
        own: Any = None
        if (FOLDER / f"{self.name}_rules.py").exists():
            own = importlib.import_module(f"tests.seeds.{self.name}_rules")
        self.rules: dict[str, Rule] = {**rules.RULES, **getattr(own, "RULES", {})}
        self.conversions: dict[str, Callable[[Any], Any]] = {
            **rules.CONVERSIONS,
            **getattr(own, "CONVERSIONS", {}),
        }
        module, _, name = self.document.sink.partition(":")
        self.sink_class: Any = getattr(importlib.import_module(module), name)

    def sink(self) -> Any:
        return self.sink_class(msgspec.convert(self.document.settings, self.sink_class.Settings))

    def payload(self, record: Enriched) -> Any:
        """What the sink would send, as Python; the sink's Skip or Rejected where it sends nothing."""
        sink = self.sink()
        mapped = sink.map(record)
        return sink.render(mapped) if isinstance(mapped, Payload) else mapped

    # -- rows
    def rows(self, kind: str) -> Iterator[Row]:
        for rows in self.document.kinds.get(kind, {}).values():
            yield from rows

    def beyond(self, kind: str) -> list[Row]:
        return [row for kinds, rows in self.document.beyond.items() if applies(kinds, kind) for row in rows]

    def applies(self, row: Row, record: Enriched) -> bool:
        return not row.when or bool(self.rules[row.when](record))

    def expected(self, row: Row, record: Enriched) -> Any:
        """The value that must be at the row's path; None: nothing."""
        if row.value is not None:
            return row.value
        if row.rule:
            found = self.rules[row.rule](record)
        else:
            found = next((v for s in row.source.split("|") if not empty(v := look(record, s.strip()))), None)
        return None if empty(found) else self.conversions[row.convert](found) if row.convert else found

    # -- both ways
    def problems(self, record: Enriched, payload: Any) -> Iterator[str]:
        """What the payload has not, has wrong, or has without anything that asked for it."""
        kind, document = str(record.event.kind), readable(payload)
        rows = [r for r in (*self.rows(kind), *self.beyond(kind)) if self.applies(r, record)]
        for row in rows:
            if not row.checked:
                continue
            want = self.expected(row, record)
            for where in row.paths:
                have = at(document, where)
                if want is None and have not in (MISSING, None):
                    yield f"{row.field or row.at}: the event has none, but {dotted(where)} is {have!r}"
                elif want is not None and have is MISSING:
                    yield f"{row.field or row.at}: nothing at {dotted(where)}, expected {want!r}"
                elif want is not None and not same(want, have):
                    yield f"{row.field or row.at}: {dotted(where)} is {have!r}, expected {want!r}"
        claims = [where for row in rows for where in row.paths]
        for leaf, value in leaves(document):
            if value is not None and not any(leaf[: len(c)] == c for c in claims):
                yield f"{dotted(leaf)} = {value!r}: no row of the seed and nothing in `beyond` asks for it"

    # -- the copy of the seed
    def incomplete(self, wanted: Fields | None = None) -> Iterator[str]:
        """Fields of the seed's lists that are neither a row nor unmapped, or that the seed has not."""
        for kind, lists in (wanted or fields())[self.document.seed].items():
            if kind == EVERY:
                continue
            for name, entries in lists.items():
                if name == "labels":
                    continue
                here = {r.field for r in self.document.kinds.get(kind, {}).get(name, [])}
                not_sent = self.document.unmapped.get(kind, {}).get(name, {})
                for field in sorted(entries.keys() - here - not_sent.keys()):
                    yield f"{kind}.{name}: {field} is missing"
                for field in sorted((here | not_sent.keys()) - entries.keys()):
                    yield f"{kind}.{name}: {field} is not in the seed"
                for field in sorted(here & not_sent.keys()):
                    yield f"{kind}.{name}: {field} is both a row and unmapped"

    def unnamed(self) -> Iterator[str]:
        """Rules and conversions that are nowhere, rows without a value, and what is beyond the seed without a
        reason."""
        for kind, lists in self.document.kinds.items():
            for name, rows in lists.items():
                yield from (f"{kind}.{name}: {r.field} says no value" for r in rows if not r.checked)
                yield from (f"{kind}.{name}: a row without a field" for r in rows if not r.field)
        for kind, rows in self.document.beyond.items():
            yield from (f"beyond.{kind}: {r.at} has no reason" for r in rows if not r.reason)
        for row in self.every_row():
            yield from (f"{row.at}: no rule {n}" for n in (row.rule, row.when) if n and n not in self.rules)
            if row.convert and row.convert not in self.conversions:
                yield f"{row.at}: no conversion {row.convert}"

    def every_row(self) -> Iterator[Row]:
        for kind in self.document.kinds:
            yield from self.rows(kind)
        for rows in self.document.beyond.values():
            yield from rows

    def filled(self, record: Enriched) -> Enriched:
        """The record with a sample value in every field that a row of its kind reads and that it has not."""
        kind = str(record.event.kind)
        for row in (*self.rows(kind), *self.beyond(kind)):
            for source in filter(None, (s.strip() for s in row.source.split("|"))):
                if source.startswith("event.") and empty(look(record, source)):
                    event = fill(record.event, source.split(".")[1:])
                    record = msgspec.structs.replace(record, event=event)
        return record


def seeds() -> dict[str, Seed]:
    return {file.stem: Seed(file) for file in sorted(FOLDER.glob("*.yaml"))}


def applies(kinds: str, kind: str) -> bool:
    """Whether a key of `beyond` speaks of a kind."""
    return kinds == EVERY or kind in (k.strip() for k in kinds.split(","))


# -- records
def look(record: Enriched, source: str) -> Any:
    """The value at a dotted path; None where a body is missing. AttributeError for a field that no record
    has."""
    value: Any = record
    for name in source.split("."):
        if isinstance(value, Mapping):
            value = value.get(name)
        elif value is not None:
            value = getattr(value, name)
    return value


def empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, (list, tuple, dict)) and not value)


def fill(struct: msgspec.Struct, names: list[str]) -> Any:
    """`struct` with a sample value in the field that `names` leads to."""
    name, *rest = names
    kind = get_type_hints(type(struct))[name]
    several = get_args(kind) if get_origin(kind) not in (Sequence, Mapping) else ()
    kinds = [k for k in several if k is not type(None)] or [kind]
    if rest:
        cls = next((k for k in kinds if isinstance(k, type) and k.__name__ in BY_NAME), None)
        if cls is None:  # a mapping
            return msgspec.structs.replace(
                struct, **{name: {**getattr(struct, name), rest[0]: f"sample {rest[0]}"}}
            )
        inner = getattr(struct, name)
        return msgspec.structs.replace(struct, **{name: fill(cls() if inner is None else inner, rest)})
    return msgspec.structs.replace(struct, **{name: _sample(name, kinds[0])})


def _sample(name: str, kind: Any) -> Any:
    if kind is Content:
        return f'{{"sample": "{name}"}}'
    if kind is bool:
        return True
    if kind is int:
        return 7_000_000
    if kind is bytes:
        return bytes(range(1, 9))
    if kind is str:
        return "0.25" if name.endswith("price") else f"sample {name}"
    return {"sample": name} if "Mapping" in str(kind) else [f"sample {name}"]


# -- payloads
def path(text: str) -> Where:
    return tuple(bracketed or plain for bracketed, plain in _SEGMENT.findall(text))


def dotted(where: Where) -> str:
    return "".join(f"[{k}]" if "." in k or k.isdigit() else f".{k}" for k in where).lstrip(".")


def at(document: Any, where: Where) -> Any:
    for key in where:
        if isinstance(document, list) and key.isdigit() and int(key) < len(document):
            document = document[int(key)]
        elif isinstance(document, dict) and key in document:
            document = document[key]
        else:
            return MISSING
    return document


def leaves(document: Any, where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Everything that has nothing below it, with its path."""
    inner = dict(enumerate(document)) if isinstance(document, list) else document
    if not isinstance(inner, dict) or not inner:
        yield where, document
        return
    for key, value in inner.items():
        yield from leaves(value, (*where, str(key)))


def same(want: Any, have: Any) -> bool:
    """Equal, and of the same JSON type: 1 is neither true nor 1.0."""
    if isinstance(want, (list, tuple)) and isinstance(have, list):
        return len(want) == len(have) and all(same(w, h) for w, h in zip(want, have, strict=True))
    if isinstance(want, Mapping) and isinstance(have, dict):
        return want.keys() == have.keys() and all(same(want[k], have[k]) for k in want)
    alike = all(isinstance(want, t) == isinstance(have, t) for t in (bool, float))
    return alike and bool(want == have)


def readable(document: Any) -> Any:
    """OTLP/JSON attribute lists as mappings of plain values, at any depth."""
    if isinstance(document, list):
        if document and all(isinstance(e, dict) and e.keys() == {"key", "value"} for e in document):
            return {e["key"]: _plain(e["value"]) for e in document}
        return [readable(e) for e in document]
    if isinstance(document, dict):
        return {k: readable(v) for k, v in document.items()}
    return document


def _plain(value: Any) -> Any:
    """An OTLP/JSON AnyValue."""
    if not isinstance(value, dict) or len(value) != 1:
        return readable(value)
    [(kind, inner)] = value.items()
    if kind == "arrayValue":
        return [_plain(v) for v in inner.get("values", [])]
    if kind == "kvlistValue":
        return readable(inner.get("values", []))
    return int(inner) if kind == "intValue" else inner
