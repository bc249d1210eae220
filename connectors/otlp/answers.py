"""Reads an OTLP receiver's answer: over HTTP in protobuf or JSON, over gRPC as a message.

Never raises: garbage counts as an empty answer.
"""

from __future__ import annotations

import json
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from connectors.sdk.http import Response

_PAGES: Final = ("text/html", "application/xhtml+xml")
_MARKUP: Final = (b"<!doctype", b"<html", b"<?xml")
"""Whole words: a partial success in protobuf may begin with a line feed and `<`, its tag and its length."""


def partial_success(answer: Response) -> tuple[int, str]:
    """The number of spans that a 2xx answer reports as not stored, and its message.

    An unreadable answer counts as no rejected spans.
    """
    if "json" not in answer.headers.get("content-type", ""):
        return partial_success_of(answer.body)
    try:
        part = json.loads(answer.body).get("partialSuccess") or {}
        return max(0, int(part.get("rejectedSpans", 0))), str(part.get("errorMessage", ""))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0, ""


def partial_success_of(body: bytes) -> tuple[int, str]:
    """The same for an ExportTraceServiceResponse in protobuf."""
    if not body:
        return 0, ""
    try:
        success = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # protobuf's DecodeError, which has no type stubs
        return 0, ""
    return max(0, success.rejected_spans), success.error_message


def is_web_page(answer: Response) -> bool:
    """Whether an answer is HTML: that of a login page or a proxy, which no OTLP receiver gives."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in _PAGES or answer.body[:256].lstrip().lower().startswith(_MARKUP)


def error_message(answer: Response) -> str:
    """The message of an error's body.

    It is that of a google.rpc.Status in protobuf or JSON, else the body itself if it is text.
    """
    kind = answer.headers.get("content-type", "")
    if "protobuf" in kind:
        # opentelemetry-proto does not ship google.rpc.Status, but this message has the same two fields
        try:
            return str(ExportTracePartialSuccess.FromString(answer.body).error_message)
        except Exception:  # protobuf's DecodeError, which has no type stubs
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
