"""Every sink says how it treats every kind, and names every field that it reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.sdk.contract import Enriched, Payload, Skip, spec_of
from tailrace.records import Evaluation, Kind, TraceContext, TraceEvent
from tests.connectors.enriching import START, make_context, make_event
from tests.connectors.generated import contexts, events
from tests.connectors.vendors import VENDORS, mapping_of


def bodies(found: Any) -> Any:
    """What two results of `map` are compared by."""
    return (found.body, found.size, found.events) if isinstance(found, Payload) else found


@pytest.mark.parametrize("name", VENDORS)
def test_every_kind_is_assigned(name: str) -> None:
    sink, mapping = VENDORS[name].make(**VENDORS[name].whole), mapping_of(name)
    assert set(mapping.KINDS) == set(Kind), f"connectors/sinks/{name}/mapping.py: KINDS"
    for kind, how in mapping.KINDS.items():
        result = Evaluation(number=1.0) if kind == Kind.EVALUATION else None
        fields: dict[str, Any] = {"message_id": "m", "root_started_at": START, "evaluation": result}
        event = make_event(1, kind=str(kind), **fields)
        found = sink.map(Enriched(event, make_context(event), "t", 0, 0, 0))
        assert (found == how) if isinstance(how, Skip) else isinstance(found, Payload), kind


@pytest.mark.parametrize("name", VENDORS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(event=events, context=contexts, data=st.data())
def test_no_field_is_read_that_is_not_named(
    name: str, event: TraceEvent, context: TraceContext, data: st.DataObject
) -> None:
    """The runner decodes the named fields only: others would silently have their defaults."""
    sink, mapping = VENDORS[name].make(**VENDORS[name].whole), mapping_of(name)
    assert spec_of(type(sink)).fields == mapping.FIELDS
    mapped = sorted(str(kind) for kind, how in mapping.KINDS.items() if not isinstance(how, Skip))
    event = msgspec.structs.replace(
        event,
        kind=data.draw(st.sampled_from(mapped)),
        started_at=START,
        ended_at=START + 5,
        published_at=START,
    )
    context = msgspec.structs.replace(context, trace_started_at=START + 1, marks=())
    cut = TraceEvent(**{field: getattr(event, field) for field in mapping.FIELDS})
    whole = sink.map(Enriched(event, context, "t", 0, 0, 0))
    if name == "otlp":  # its resource
        assert not isinstance(whole, Payload) or whole.body[0] == event.host_name
    assert bodies(sink.map(Enriched(cut, context, "t", 0, 0, 0))) == bodies(whole)
