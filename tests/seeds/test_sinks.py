"""What the vendor sinks send is what their seed's tables say, and nothing else without a reason."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from connectors.sdk.contract import Skip
from connectors.sdk.outcomes import Rejected
from tests.golden.events import FILE, golden
from tests.seeds.walker import MISSING, applies, at, dotted, leaves, readable, seeds

SEEDS = seeds()
CASES = [(sink, name) for sink in SEEDS for name in json.loads(FILE.read_text())]
GOLDEN = FILE.parent


def filtered(sink: str) -> dict[str, str]:
    """Golden records that a sink leaves out -> reason."""
    file = GOLDEN / sink / "filtered.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


@pytest.mark.parametrize("sink", SEEDS)
def test_the_copy_of_the_seed_is_complete(sink: str) -> None:
    assert list(SEEDS[sink].incomplete()) == []
    assert list(SEEDS[sink].unnamed()) == []


@pytest.mark.parametrize(("sink", "name"), CASES)
def test_rows_are_in_the_payload_and_the_payload_is_in_the_rows(sink: str, name: str) -> None:
    seed = SEEDS[sink]
    record = golden(None)[name]
    for each in (record, seed.filled(record)):
        payload = seed.payload(each)
        if isinstance(payload, Skip):
            assert name in filtered(sink), payload
            return
        assert not isinstance(payload, Rejected), payload
        assert list(seed.problems(each, payload)) == []


@pytest.mark.parametrize(("sink", "name"), CASES)
def test_golden_payloads(sink: str, name: str) -> None:
    """tests/golden/<sink>/<name>.json, written by hand from the seed; else the record is in filtered.toml,
    with the reason."""
    seed = SEEDS[sink]
    spec = seed.sink_class.__tailrace_sink__
    payload = seed.payload(golden(spec.fields)[name])
    if isinstance(payload, Skip):
        assert filtered(sink).get(name), f"{name} is filtered ({payload.reason}) and not in filtered.toml"
        return
    assert name not in filtered(sink)
    have = json.loads(msgspec.json.encode(payload))
    want = json.loads((GOLDEN / sink / f"{name}.json").read_text(encoding="utf-8"))
    assert dict(flat(have)) == dict(flat(want))


def flat(document: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """Leaves by path, so that a difference is shown as the paths it is at; the order of attributes does not
    count, nor does the version of the installed price table."""
    for where, value in leaves(readable(document)):
        yield where, "genai-prices" if str(value).startswith("genai-prices ") else value


@pytest.mark.parametrize("sink", SEEDS)
def test_nothing_beyond_the_seed_is_claimed_that_is_not_sent(sink: str) -> None:
    seed, sent = SEEDS[sink], {}
    for name, record in golden(None).items():
        payload = seed.payload(seed.filled(record))
        if not isinstance(payload, Skip):
            sent[name] = (str(record.event.kind), readable(payload))
    for kind, rows in seed.document.beyond.items():
        for row in rows:
            for where in row.paths:
                found = [at(document, where) for k, document in sent.values() if applies(kind, k)]
                assert any(value is not MISSING for value in found), f"{kind}: {row.at}"


@pytest.mark.parametrize("sink", SEEDS)
def test_the_walker_finds_what_is_wrong(sink: str) -> None:
    """Both ways: every leaf that a row checks, changed or taken away, and one leaf too many."""
    seed = SEEDS[sink]
    record = next(r for r in golden(None).values() if not isinstance(seed.payload(r), Skip))
    kind = str(record.event.kind)
    payload = readable(seed.payload(record))
    checked = {where for row in (*seed.rows(kind), *seed.beyond(kind)) if row.checked for where in row.paths}
    found = 0
    for where in checked:
        if at(payload, where) is MISSING:
            continue
        for change in ("changed", None):
            broken = copy.deepcopy(payload)
            inner = at(broken, where[:-1])
            key: Any = int(where[-1]) if isinstance(inner, list) else where[-1]
            inner[key] = change
            assert [p for p in seed.problems(record, broken) if dotted(where) in p], (where, change)
            found += 1
    assert found > 20
    assert any("unheard" in p for p in seed.problems(record, {**payload, "unheard": {"of": 1}}))
