"""What each sink sends, judged by the vendor's own models: `make test-contract`.

Every golden, and everything that the 445 recorded runs become, with each setting that changes payloads.
Nothing may be unknown to the models, and nothing missing that a seed lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from connectors.sdk.contract import Sink, spec_of
from tests.connectors.vendors import VENDORS, shipped
from tests.golden.events import FILE, golden
from tests.harness.recorded import RECORDS, recorded
from tests.seeds.walker import seeds
from tests.vendor import judges
from tests.vendor.inside import Request
from tests.vendor.planted import BODIES, planted, planted_messages

pytestmark = pytest.mark.contract
CASES = [(vendor, i) for vendor in judges.judged() for i in range(len(judges.variants(vendor)))]
"""Vendor and the number of its settings."""
MOST = 50
"""Records in a batch of the recorded runs."""


def sink_of(vendor: str, number: int) -> Sink:
    return VENDORS[vendor].make(**judges.variants(vendor)[number])


def fields_of(vendor: str) -> frozenset[str] | None:
    return spec_of(VENDORS[vendor].sink).fields


def goldens(vendor: str, number: int = 0) -> dict[str, list[Request]]:
    """Name of a golden event -> the requests in which it is sent alone."""
    sink, settings = sink_of(vendor, number), judges.variants(vendor)[number]
    made = {
        name: judges.requests(sink, list(judges.mapped(sink, [record])), 1, settings)
        for name, record in golden(fields_of(vendor)).items()
    }
    return {name: requests for name, requests in made.items() if requests}


def wrong(vendor: str, named: list[tuple[str, Request]]) -> Iterator[str]:
    found = judges.verdicts(vendor, [request for _, request in named])
    for (name, request), errors in zip(named, found, strict=True):
        yield from (f"{name}: {request.method} {request.path}: {error}" for error in errors)


@pytest.mark.parametrize(("vendor", "number"), CASES)
def test_every_golden_passes(vendor: str, number: int) -> None:
    made = goldens(vendor, number)
    if number == 0:
        assert set(made) == {file.stem for file in (FILE.parent / vendor).glob("*.json")}
    assert list(wrong(vendor, [(name, r) for name, requests in made.items() for r in requests])) == []


@pytest.mark.parametrize(("vendor", "number"), CASES)
def test_all_recorded_runs_pass(vendor: str, number: int) -> None:
    sink = sink_of(vendor, number)
    payloads = list(judges.mapped(sink, recorded(fields_of(vendor))))
    assert len(payloads) == RECORDS
    made = judges.requests(sink, payloads, MOST, judges.variants(vendor)[number])
    found = list(wrong(vendor, [(f"batch {i}", request) for i, request in enumerate(made)]))
    assert (len(found), found[:10]) == (0, [])


@pytest.mark.parametrize("vendor", sorted(seeds()))
def test_all_recorded_runs_have_what_the_seed_lists(vendor: str) -> None:
    seed = seeds()[vendor]
    sink = seed.sink()
    found: Counter[str] = Counter()
    for record in recorded(None):
        [payload] = judges.mapped(sink, [record])
        found.update(seed.problems(record, sink.render(payload)))
    assert found.most_common(10) == []


@pytest.mark.parametrize("vendor", judges.judged())
def test_planted_errors_are_found(vendor: str) -> None:
    """A judge that passes everything would be worth nothing."""
    errors = BODIES[vendor]
    assert len(errors) >= 10
    numbers = range(len(judges.variants(vendor)))
    right = [r for number in numbers for requests in goldens(vendor, number).values() for r in requests]
    if vendor == "otlp":
        right = [r for r in right if not r.raw]
    broken = [planted(error, right) for error in errors]
    for error, found in zip(errors, judges.verdicts(vendor, broken), strict=True):
        assert any(error.says in text for text in found), (error, found)


@pytest.mark.parametrize("vendor", judges.judged())
def test_planted_errors_in_messages_are_found(vendor: str) -> None:
    """Of every vendor that is sent protobuf, with whichever settings."""
    numbers = range(len(judges.variants(vendor)))
    right = [r for number in numbers for requests in goldens(vendor, number).values() for r in requests]
    if not any(r.raw for r in right):
        assert vendor == "opik"
        return
    cases = list(planted_messages(right))
    found = judges.verdicts(vendor, [request for _, request, _ in cases])
    for (name, _, says), errors in zip(cases, found, strict=True):
        assert any(says in text for text in errors), (name, errors)


@pytest.mark.parametrize("vendor", judges.judged())
def test_a_request_to_another_path_is_found(vendor: str) -> None:
    if vendor == "otlp":  # whose users choose the path
        return
    [first, *_] = next(iter(goldens(vendor).values()))
    [found] = judges.verdicts(vendor, [first._replace(path="/api/unheard")])
    assert [e for e in found if "not a request" in e], found


def test_every_sink_of_a_vendor_has_a_judge() -> None:
    """tests/vendor/__init__.py says how to write one: tests/vendor/inside/<vendor>.py."""
    assert set(shipped()) - set(judges.judged()) == set()
