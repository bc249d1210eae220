"""What an OTLP receiver's answer says: over HTTP in protobuf or JSON, over gRPC in a message. Total: garbage
says nothing."""

from __future__ import annotations

import json

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from connectors.sdk.http import Response


def partial_success(answer: Response) -> tuple[int, str]:
    """Spans that a 2xx says were not stored, and its message. An answer that cannot be read rejected
    nothing."""
    if "json" not in answer.headers.get("content-type", ""):
        return partial_success_of(answer.body)
    try:
        part = json.loads(answer.body).get("partialSuccess") or {}
        return max(0, int(part.get("rejectedSpans", 0))), str(part.get("errorMessage", ""))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0, ""


def partial_success_of(body: bytes) -> tuple[int, str]:
    """The same of an ExportTraceServiceResponse in protobuf."""
    if not body:
        return 0, ""
    try:
        success = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # protobuf's DecodeError, which it ships without types
        return 0, ""
    return max(0, success.rejected_spans), success.error_message


def error_message(answer: Response) -> str:
    """What an error's body says: the message of a google.rpc.Status in protobuf or JSON, else its text, if it
    is text."""
    kind = answer.headers.get("content-type", "")
    if "protobuf" in kind:
        # google.rpc.Status, which opentelemetry-proto does not ship, has its code and message in the same two
        # fields
        try:
            return str(ExportTracePartialSuccess.FromString(answer.body).error_message)
        except Exception:  # protobuf's DecodeError, which it ships without types
            return ""
    text = answer.body[:4000].decode("utf-8", "replace")
    if "json" in kind:
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError):
            return text
        found = document.get("message") if isinstance(document, dict) else None
        return str(found) if found else text
    return text if kind.startswith("text/plain") else ""
