"""The sinks that ship with tailrace pass the conformance kit."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection
from typing import Any, TypeGuard

import msgspec
import pytest

from connectors.consumer.reader import ALWAYS
from connectors.sdk.contract import Sink, spec_of
from connectors.sinks.alibaba.sink import Alibaba
from connectors.sinks.console import Console
from connectors.sinks.file import File
from connectors.sinks.langfuse.sink import Langfuse
from connectors.sinks.opik.sink import Opik
from connectors.sinks.otlp.sink import Otlp
from connectors.sinks.weave.sink import Weave
from connectors.testing import conformance
from connectors.testing.conformance.suite import Answer, Received
from connectors.testing.doubles import otlp_request
from tests.connectors.vendors import VENDORS

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": otlp_request.CONTENT_TYPE}


class TestOtlp(conformance.SinkConformance):
    sink = Otlp
    settings = {"endpoint": "{endpoint}", "api_key": "{secret}", "headers": {"x-key": "{secret}"}}

    def accepted(self, request: Received) -> Answer:
        return Answer(200, PROTOBUF, otlp_request.success())

    def partial(self, request: Received, refused: Collection[str]) -> Answer:
        return Answer(200, PROTOBUF, otlp_request.success(len(refused), "too old"))


class TestOtlpWithContent(TestOtlp):
    settings = {**TestOtlp.settings, "content_on_spans": "true", "compression": "none"}


class TestConsole(conformance.SinkConformance):
    sink, transport = Console, None

    def make(self, settings: Any) -> Sink:
        return Console(settings, io.StringIO())


class TestConsoleJson(TestConsole):
    settings = {"format": "json"}
    exceptions = {"test_identity_is_the_events": "a line says at which offset its record is"}


class TestFile(conformance.SinkConformance):
    sink, transport = File, None
    settings = {"path": "{folder}/events.jsonl", "fsync": "false"}
    exceptions = {"test_identity_is_the_events": "a line says at which offset its record is"}


class TestAlibaba(conformance.SinkConformance):
    sink = Alibaba
    settings = {"endpoint": "{endpoint}", "license_key": "{secret}"}

    def accepted(self, request: Received) -> Answer:
        if request.method == "HEAD":
            return Answer(405)
        return Answer(200, PROTOBUF, otlp_request.success())

    def partial(self, request: Received, refused: Collection[str]) -> Answer:
        return Answer(200, PROTOBUF, otlp_request.success(len(refused), "too old"))


class TestAlibabaCms(TestAlibaba):
    settings = {
        **TestAlibaba.settings,
        "workspace": "default-cms-1-cn-hangzhou",
        "kinds": "seed",
        "usage": "all",
        "compression": "none",
    }


class TestLangfuse(conformance.SinkConformance):
    sink = Langfuse
    settings = {"host": "{endpoint}", "public_key": "pk-lf-kit", "secret_key": "{secret}"}

    def accepted(self, request: Received) -> Answer:
        if "/otel/" in request.path:
            return Answer(200, PROTOBUF, otlp_request.success())
        return Answer(200, JSON, b'{"data": [{"id": "kit", "name": "kit"}]}')


class TestOpik(conformance.SinkConformance):
    sink = Opik
    settings = {"url": "{endpoint}/api", "api_key": "{secret}", "workspace": "kit", "project_name": "kit"}

    def accepted(self, request: Received) -> Answer:
        return Answer(200, JSON, b'{"page": 1, "size": 0, "total": 0, "content": []}')

    def ids_in(self, request: Received) -> Collection[str]:
        """A rating has the id of what it rates, and no other."""
        found = list(super().ids_in(request))
        if "feedback-scores" in request.path:
            text = request.path.encode() + request.body
            rated = {i: record.payload.body[2] for i, record in self.sent.items()}
            found += [
                i for i, score in rated.items() if score and score[1].encode() in text and i not in found
            ]
        return found


class TestWeave(conformance.SinkConformance):
    sink = Weave
    settings = {"host": "{endpoint}", "api_key": "{secret}", "entity": "kit", "project": "kit"}

    def accepted(self, request: Received) -> Answer:
        return Answer(200, JSON, b'{"count": 0}')

    def ids_in(self, request: Received) -> Collection[str]:
        """What deletes a rating, and the note of one, have the ids of the feedback, and no other."""
        found = list(super().ids_in(request))
        bodies = {i: record.payload.body for i, record in self.sent.items() if i not in found}
        found += [
            i
            for i, body in bodies.items()
            if isinstance(body, tuple) and any(item.id.encode() in request.body for item in body)
        ]
        return found


class TestWeaveAgents(conformance.SinkConformance):
    sink = Weave
    settings = {**TestWeave.settings, "view": "agents"}

    def accepted(self, request: Received) -> Answer:
        if "/agents/" in request.path:
            return Answer(200, PROTOBUF, otlp_request.success())
        return Answer(200, JSON, b'{"count": 0}')

    def partial(self, request: Received, refused: Collection[str]) -> Answer:
        return Answer(200, PROTOBUF, otlp_request.success(len(refused), "too old"))


def test_the_kit_is_run_for_every_vendor() -> None:
    run = {kit.sink for kit in vars(sys.modules[__name__]).values() if _is_kit(kit)}
    assert run >= {vendor.sink for vendor in VENDORS.values()}


def _is_kit(found: object) -> TypeGuard[type[conformance.SinkConformance]]:
    return isinstance(found, type) and issubclass(found, conformance.SinkConformance)


@pytest.mark.parametrize("kit", [TestAlibaba, TestLangfuse, TestOpik, TestOtlpWithContent, TestWeave])
def test_a_field_that_a_sink_does_not_name_is_found(kit: type[conformance.SinkConformance]) -> None:
    """Whichever it is: each is taken out of the sink's fields, in turn."""
    spec = spec_of(kit.sink)
    fields = spec.fields or frozenset()
    assert len(fields - ALWAYS) > 30
    unnoticed = []
    for field in sorted(fields - ALWAYS):
        less = msgspec.structs.replace(spec, fields=fields - {field})
        try:
            type("Less", (kit,), {"spec": less})().test_fields_names_all_that_map_reads()
        except AssertionError:
            continue
        unnoticed.append(field)
    assert unnoticed == []
