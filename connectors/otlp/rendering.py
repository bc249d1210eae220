"""An OTLP protobuf request as its JSON document, for people and tests. Not on the record path."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS = ("traceId", "spanId", "parentSpanId")


def as_document(body: bytes) -> dict[str, Any]:
    """An ExportTraceServiceRequest by the protocol's JSON mapping.

    Ids are hexadecimal, 64-bit integers are text, enums are numbers.
    """
    request = ExportTraceServiceRequest.FromString(body)
    document: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=True)
    for group in document.get("resourceSpans", ()):
        for scoped in group.get("scopeSpans", ()):
            for span in scoped.get("spans", ()):
                for carrier in (span, *span.get("links", ())):
                    for name in _IDS:
                        if name in carrier:
                            carrier[name] = base64.b64decode(carrier[name]).hex()
    return document
