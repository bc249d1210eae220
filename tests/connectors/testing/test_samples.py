"""The kit's samples are the golden events after the processor, and copies of them get ids of their own."""

from __future__ import annotations

import sys

import msgspec
import pytest

from connectors.testing import samples
from connectors.testing.conformance import garbage
from connectors.testing.conformance.hostile_server import plain
from tailrace.ids import otel_span_id
from tests.golden.events import golden
from tools.samples import FILE, rendered


def test_the_file_is_what_the_processor_makes_of_the_golden_events() -> None:
    assert FILE.read_bytes() == rendered(), "run make samples"
    for name, record in golden().items():
        read = samples.read(samples.samples()[name], None)
        assert (read.event, read.context) == (record.event, record.context)


@pytest.mark.parametrize("name", samples.samples())
def test_a_copy_has_ids_of_its_own_that_belong_together(name: str) -> None:
    sample = samples.samples()[name]
    one, again, other = samples.copy(sample, 1), samples.copy(sample, 1), samples.copy(sample, 2)
    assert one == again
    for field in ("event_id", "source_id", "trace_id", "message_id", "workflow_run_id"):
        values = [getattr(s.event, field) for s in (sample, one, other)]
        assert values[0] is None or len(set(values)) == 3, field
    assert len({s.context.span_id for s in (sample, one, other)}) == 3
    assert one.event.tenant_id == sample.event.tenant_id
    assert one.context.span_id == otel_span_id(one.event.source_id or "")
    if sample.context.root_trace_id == sample.event.trace_id:
        assert one.context.root_trace_id == one.event.trace_id
    text = msgspec.json.encode(one).decode()
    assert str(sample.event.event_id) not in text
    assert len({samples.read(s, None).event.event_id for s in (one, other)}) == 2


def test_all_garbage_can_be_in_the_log() -> None:
    read = samples.reader(None)
    written = list(garbage.written())
    assert len(written) > 500
    for name, sample in written:
        assert (read(sample, 0).event.event_id or "") == (sample.event.event_id or ""), name


def test_without_hypothesis_nothing_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    garbage.generated.cache_clear()
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert garbage.generated() is None
    monkeypatch.undo()
    garbage.generated.cache_clear()
    assert garbage.generated() is not None


def test_a_reader_of_some_fields_gets_no_others() -> None:
    record = samples.read(samples.samples()["message"], {"name"})
    assert (record.event.name, record.event.inputs) == ("Support Assistant", None)


@pytest.mark.parametrize(("encoding", "problem"), [("gzip", "is not gzip"), ("br", "not known")])
def test_a_body_that_cannot_be_read_is_an_error(encoding: str, problem: str) -> None:
    assert problem in plain(b"nonsense", encoding)[1]
