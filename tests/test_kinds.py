"""Every decision that a kind of event needs is made. What is missing is one list, a line for each file.

A decision about all kinds has an explicit entry for each of them, also for those that it leaves out. Some
depend on others: a page names the kinds that its sink sends. A new kind needs all of them.
"""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Final, NamedTuple

import msgspec
import yaml

from connectors.filters.content import READS, REFERENCES
from connectors.filters.reparent import MOVES
from connectors.sdk.contract import Skip
from connectors.testing.samples import samples
from streams.processing import apply
from streams.processing.metrics.grouping import LABELS
from streams.processing.metrics.kinds import COUNTED, LABELS_OF, Counted
from tailrace import kinds
from tailrace.records import Kind, TraceEvent
from tests.connectors.vendors import shipped
from tests.docs.markdown import ROOT
from tests.docs.test_ids import SINKS as SINKS_WITH_IDS
from tests.docs.test_ids import origins, rules
from tests.golden.events import completed
from tests.harness import mixed
from tests.harness.test_recount import CASES, NOW
from tests.seeds.tables import VENDORS_WITHOUT_SEED, WITHOUT_SEED, fields

UNPUBLISHED: Final = Kind.UNKNOWN
"""What readers make of a kind that is newer than they are. Nobody publishes it."""
UNSENT: Final = frozenset({UNPUBLISHED, *kinds.CONTROL})
"""Kinds that are sent to no sink."""


class Decision(NamedTuple):
    """One decision that each kind needs."""

    what: str
    path: str
    """Where it is decided."""
    made: Collection[str]
    """Kinds for which it is made."""
    needless: Collection[str] = ()
    """Kinds that do not need it."""


def page(path: str) -> str:
    """Its text; empty if there is no such file, so that what it lacks is listed."""
    file = ROOT / path
    return file.read_text(encoding="utf-8") if file.exists() else ""


def quoted(path: str) -> set[str]:
    """Names in backquotes on a page."""
    return set(re.findall(r"`(\w+)`", page(path)))


def mapping_of(sink: str) -> Mapping[str, object]:
    """Kind -> how the sink maps it, or the Skip that says why it does not; empty without KINDS."""
    name = f"connectors.sinks.{sink}.mapping"
    try:
        found: Mapping[str, object] = getattr(importlib.import_module(name), "KINDS", {})
    except ModuleNotFoundError as e:
        if e.name is None or not name.startswith(e.name):
            raise
        return {}
    return found


def skipped(sink: str) -> set[str]:
    return {k for k, how in mapping_of(sink).items() if isinstance(how, Skip)}


def with_payload(sink: str) -> set[str]:
    """Kinds whose golden events all have a payload file, or an entry that says why not."""
    described = tomllib.loads(page(f"tests/golden/{sink}/filtered.toml"))
    described |= dict.fromkeys(file.stem for file in (ROOT / "tests" / "golden" / sink).glob("*.json"))
    events = completed()
    lacking = {str(e.kind) for name, e in events.items() if name not in described}
    return {str(e.kind) for e in events.values()} - lacking


def in_seed(sink: str) -> set[str]:
    """Kinds that the sink's copy of its seed mentions, in its lists or beside them."""
    document = yaml.safe_load(page(f"tests/seeds/{sink}.yaml")) or {}
    return {
        k.strip() for part in ("kinds", "beyond") for key in document.get(part, {}) for k in key.split(",")
    }


@cache
def decisions() -> tuple[Decision, ...]:
    sinks = shipped()
    return (*_in_code(), *(d for sink in sinks for d in _at_a_sink(sink)), *_in_tests(), *_on_pages(sinks))


def _in_code() -> Iterator[Decision]:
    facts = kinds.FACTS
    yield Decision("its row of facts: body, trace, parent, children", "tailrace/kinds.py", facts)
    yield Decision(
        "what it does there, if a control record",
        "streams/processing/apply.py",
        {apply.LINK},
        facts.keys() - kinds.CONTROL,
    )
    yield Decision("what metrics count of it", "streams/processing/metrics/kinds.py", COUNTED)
    yield Decision(
        "where its children go without it, if REPLACED",
        "connectors/filters/reparent.py",
        MOVES,
        facts.keys() - kinds.MOVED,
    )
    yield Decision("what a reference to its content names", "connectors/filters/content.py", REFERENCES)


def _at_a_sink(sink: str) -> Iterator[Decision]:
    left_out = skipped(sink)
    yield Decision(
        f"what it is at {sink}, or why it is left out (KINDS)",
        f"connectors/sinks/{sink}/mapping.py",
        mapping_of(sink),
    )
    yield Decision(
        "what is sent for its golden event, or filtered.toml",
        f"tests/golden/{sink}/",
        with_payload(sink),
        UNSENT,
    )
    if sink not in VENDORS_WITHOUT_SEED:
        yield Decision(
            "where its fields are in what is sent (or VENDORS_WITHOUT_SEED in tests/seeds/tables.py)",
            f"tests/seeds/{sink}.yaml",
            in_seed(sink),
            left_out,
        )
    path = f"docs/sinks/{sink}.md"
    yield Decision("its row in the table of what becomes what", path, quoted(path), left_out)
    yield Decision(
        f"its ids at {sink}", "docs/ids.md", {kind for name, kind, _ in rules() if name == sink}, UNSENT
    )


def _in_tests() -> Iterator[Decision]:
    yield Decision(
        "a golden event", "tests/golden/events.json", {e.kind for e in completed().values()}, UNSENT
    )
    yield Decision(
        "a sample (make samples)",
        "connectors/testing/samples.json",
        {s.event.kind for s in samples().values()},
        UNSENT,
    )
    yield Decision(
        "the seeds' fields (or WITHOUT_SEED in tests/seeds/tables.py)",
        "tests/seeds/fields.toml",
        {kind for seed in fields().values() for kind in seed} | WITHOUT_SEED,
    )
    yield Decision(
        "a case of what metrics count of it",
        "tests/harness/test_recount.py",
        {e.kind for e, _ in CASES.values()},
        UNSENT,
    )
    yield Decision(
        "an event of the mixed load",
        "tests/harness/mixed.py",
        {e.kind for e in mixed.mixed(7, 4000, NOW)},
        UNSENT,
    )


def _on_pages(sinks: Iterable[str]) -> Iterator[Decision]:
    yield Decision(
        "what its ids are made of",
        "docs/ids.md",
        {kind for kind, _ in origins()},
        set.intersection(*(skipped(sink) for sink in sinks if mapping_of(sink))),
    )
    yield Decision(
        "which metrics count it",
        "docs/metrics.md",
        set(re.findall(r"\w+", page("docs/metrics.md"))),
        {k for k, counted in COUNTED.items() if counted in (None, Counted())},
    )
    yield Decision("which body it has", "schemas/README.md", quoted("schemas/README.md"), {UNPUBLISHED})


def missing(names: Iterable[str], among: Collection[Decision]) -> list[str]:
    return [
        f"Kind.{kind.upper()}: {d.what} in {d.path}"
        for kind in names
        for d in among
        if kind not in d.made and kind not in d.needless
    ]


def test_every_decision_is_made_for_every_kind() -> None:
    lines = missing(Kind, decisions())
    assert not lines, "\n".join((f"{len(lines)} decisions are missing", *lines))


def test_a_new_kind_lacks_every_decision() -> None:
    lines = missing(["of_tomorrow"], decisions())
    assert lines == [f"Kind.OF_TOMORROW: {d.what} in {d.path}" for d in decisions()]


def test_a_sink_without_any_file_lacks_every_decision() -> None:
    lines = missing([Kind.MESSAGE], list(_at_a_sink("of_tomorrow")))
    assert [line.rpartition(" in ")[2] for line in lines] == [
        "connectors/sinks/of_tomorrow/mapping.py",
        "tests/golden/of_tomorrow/",
        "tests/seeds/of_tomorrow.yaml",
        "docs/sinks/of_tomorrow.md",
        "docs/ids.md",
    ]


def test_a_vendor_that_is_listed_without_a_seed_has_none() -> None:
    assert set(shipped()) >= VENDORS_WITHOUT_SEED
    assert [v for v in VENDORS_WITHOUT_SEED if page(f"tests/seeds/{v}.yaml")] == []


def test_no_decision_is_about_an_unknown_kind() -> None:
    """A table that is keyed by kinds has no other keys."""
    tables: list[Iterable[str]] = [kinds.FACTS, COUNTED, REFERENCES, *map(mapping_of, shipped())]
    assert [set(t) - set(Kind) for t in tables] == [set()] * len(tables)
    assert set(SINKS_WITH_IDS) == set(shipped())


def test_the_facts_of_a_kind_are_consistent() -> None:
    names = TraceEvent.__struct_fields__
    for kind, facts in kinds.FACTS.items():
        assert facts.body in (None, *names), kind
        assert facts.own_id in (None, *names), kind
        assert facts.parent in (kinds.IN_RUN, kinds.CALLED, kinds.BESIDE, kinds.ALONE), kind
        assert facts.children in (kinds.LEAF, kinds.REPLACED, kinds.KEPT, kinds.UNSENT), kind
    bodies = {
        f.name
        for f in msgspec.structs.fields(TraceEvent)
        if type(None) in (args := getattr(f.type, "__args__", ()))
        and any(isinstance(t, type) and issubclass(t, msgspec.Struct) for t in args)
    }
    assert bodies - {"origin", "token_classes"} == set(kinds.BODIES)


def test_metrics_and_references_ask_for_fields_that_are_there() -> None:
    assert {label for labels in LABELS_OF.values() for label in labels} <= set(LABELS)
    types = [c.type for c in COUNTED.values() if c is not None and c.type is not None]
    assert len(types) == len(set(types))
    assert {field for pairs in REFERENCES.values() for _, field in pairs} <= READS


def test_the_samples_are_the_golden_events() -> None:
    assert set(samples()) == set(json.loads(page("tests/golden/events.json")))
