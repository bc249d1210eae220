"""The sink stage written in the obvious way.

    python -m benchmarks.naive_sink FORMAT BOOTSTRAP TOPIC GROUP URL        FORMAT: otlp, opik or weave

It uses fastavro, protobuf classes or json, zlib level 6, and http.client. It reads in a consumer group,
sends 500 records per request, and commits. The OTLP spans are those of tailrace's sink with
content_on_spans, for the kinds of the benchmark's load; the Opik spans and the Weave calls have the fields of
these APIs.
"""

from __future__ import annotations

import http.client
import io
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from confluent_kafka import Consumer
from fastavro import parse_schema, schemaless_reader
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailrace.codec import schemas
from tailrace.codec.wire import BODY
from tailrace.topics import HEADER

EVENT = parse_schema(dict(schemas.current("TraceEvent")))
CONTEXT = parse_schema(dict(schemas.current("TraceContext")))
Record = tuple[dict[str, Any], dict[str, Any]]


def decode(value: bytes, context: bytes) -> Record:
    event: Any = schemaless_reader(io.BytesIO(value[BODY:]), EVENT)
    about: Any = schemaless_reader(io.BytesIO(context[BODY:]), CONTEXT)
    return event, about


# -- OTLP
def otlp(records: Sequence[Record]) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    attribute = group.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "dify"
    scoped = group.scope_spans.add()
    scoped.scope.name = "tailrace"
    for event, context in records:
        write_span(scoped.spans.add(), event, context)
    return bytes(request.SerializeToString())


def write_span(span: Span, event: dict[str, Any], context: dict[str, Any]) -> None:
    node, run = event["node_execution"] or {}, event["workflow_run"] or {}
    kind = "node" if event["kind"] == "node_execution" else "workflow"
    body = node if kind == "node" else run
    span.trace_id, span.span_id = context["run_trace_id"], context["span_id"]
    if context["parent_span_id"]:
        span.parent_span_id = context["parent_span_id"]
    span.name = "dify.node.execution" if kind == "node" else "dify.workflow.run"
    span.kind = Span.SPAN_KIND_INTERNAL
    started, ended = micros(event["started_at"]), micros(event["ended_at"])
    span.start_time_unix_nano, span.end_time_unix_nano = started * 1000, ended * 1000
    if event["error"]:
        span.status.code, span.status.message = Status.STATUS_CODE_ERROR, event["error"]
    elif event["status"] == "succeeded":
        span.status.code = Status.STATUS_CODE_OK
    values: dict[str, Any] = {
        "dify.trace_id": event["workflow_run_id"],
        "dify.tenant_id": event["tenant_id"],
        "dify.app_id": event["app_id"],
        "dify.message.id": event["message_id"],
        "dify.conversation.id": event["conversation_id"],
        "dify.workflow.id": body.get("workflow_id"),
        "dify.workflow.run_id": event["workflow_run_id"],
        f"dify.{kind}.status": event["status"],
        f"dify.{kind}.error": event["error"],
        f"dify.{kind}.elapsed_time": (ended - started) / 1e6,
        "gen_ai.provider.name": context["provider_name"] or event["model_provider"],
        "gen_ai.request.model": context["request_model"] or event["model_name"],
        "gen_ai.usage.input_tokens": event["input_tokens"],
        "gen_ai.usage.output_tokens": event["output_tokens"],
        "gen_ai.usage.total_tokens": event["total_tokens"],
        "dify.app.name": event["app_name"],
        "tailrace.event_id": event["event_id"],
        f"dify.{kind}.inputs": event["inputs"],
        f"dify.{kind}.outputs": event["outputs"],
    }
    if kind == "node":
        values |= {
            "dify.node.execution_id": event["source_id"],
            "dify.node.id": node.get("node_id"),
            "dify.node.type": event["node_type"],
            "dify.node.title": event["name"],
            "dify.node.index": node.get("index"),
            "dify.node.invoked_by": event["user_id"],
        }
    else:
        values |= {"dify.invoke_from": event["invoke_from"], "dify.invoked_by": event["user_id"]}
    for key, value in values.items():
        if value is None:
            continue
        attribute = span.attributes.add()
        attribute.key = key
        if isinstance(value, str):
            attribute.value.string_value = value
        elif isinstance(value, float):
            attribute.value.double_value = value
        else:
            attribute.value.int_value = value


# -- Opik
def opik(records: Sequence[Record]) -> bytes:
    return json.dumps({"spans": [opik_span(*record) for record in records]}, ensure_ascii=False).encode()


def opik_span(event: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    span: dict[str, Any] = {
        "id": version_7(context["trace_started_at"], context["span_id"]),
        "trace_id": version_7(context["trace_started_at"], context["message_trace_id"]),
        "parent_span_id": version_7(context["trace_started_at"], context["parent_span_id"] or bytes(8)),
        "project_name": "Default Project",
        "name": event["name"] or event["kind"],
        "type": "llm" if event["model_name"] else "general",
        "start_time": stamp(event["started_at"]),
        "end_time": stamp(event["ended_at"]),
        "input": json.loads(event["inputs"]) if event["inputs"] else None,
        "output": json.loads(event["outputs"]) if event["outputs"] else None,
        "metadata": {
            name: event[name]
            for name in ("tenant_id", "app_id", "app_name", "workflow_run_id", "node_type", "user_id")
            if event[name]
        },
    }
    if event["model_name"]:
        span |= {
            "model": event["model_name"],
            "provider": event["model_provider"],
            "usage": {
                "prompt_tokens": event["input_tokens"],
                "completion_tokens": event["output_tokens"],
                "total_tokens": event["total_tokens"],
            },
        }
        if event["total_price"]:
            span["total_estimated_cost"] = float(event["total_price"])
    return span


# -- Weave
def weave(records: Sequence[Record]) -> bytes:
    return json.dumps({"batch": [weave_call(*record) for record in records]}, ensure_ascii=False).encode()


def weave_call(event: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    usage = {}
    if event["model_name"]:
        usage[event["model_name"]] = {
            "requests": 1,
            "prompt_tokens": event["input_tokens"],
            "completion_tokens": event["output_tokens"],
            "total_tokens": event["total_tokens"],
        }
    return {
        "project_id": "acme/bench",
        "id": context["span_id"].hex(),
        "trace_id": str(UUID(bytes=context["message_trace_id"])),
        "parent_id": context["parent_span_id"].hex() if context["parent_span_id"] else None,
        "op_name": event["node_type"] or event["kind"],
        "display_name": event["name"],
        "started_at": stamp(event["started_at"]),
        "ended_at": stamp(event["ended_at"]),
        "inputs": json.loads(event["inputs"]) if event["inputs"] else {},
        "output": json.loads(event["outputs"]) if event["outputs"] else None,
        "exception": event["error"],
        "thread_id": event["conversation_id"],
        "attributes": {
            name: event[name]
            for name in ("tenant_id", "app_id", "app_name", "workflow_run_id", "node_type", "user_id")
            if event[name]
        },
        "summary": {"usage": usage, "status_counts": {"success": 1, "error": 0}},
    }


def micros(at: Any) -> int:
    """fastavro returns timestamps as datetimes."""
    if not isinstance(at, datetime):
        return int(at)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def stamp(at: Any) -> str:
    when = at if isinstance(at, datetime) else datetime.fromtimestamp(at / 1e6, UTC)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def version_7(at: Any, seed: bytes) -> str:
    low = int.from_bytes(seed[-8:], "big")
    return str(UUID(int=micros(at) // 1000 << 80 | 7 << 76 | (low & 0xFFF) << 64 | 2 << 62 | low >> 2))


FORMATS: dict[str, tuple[Callable[[Sequence[Record]], bytes], str]] = {
    "otlp": (otlp, "application/x-protobuf"),
    "opik": (opik, "application/json"),
    "weave": (weave, "application/json"),
}


def gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def main(form: str, bootstrap: str, topic: str, group: str, url: str) -> None:
    encode, content_type = FORMATS[form]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([topic])
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    while True:
        messages = consumer.consume(500, 1.0)
        records = [decode(m.value(), dict(m.headers())[HEADER]) for m in messages]
        if not records:
            continue
        connection.request("POST", "/v1/traces", gzip(encode(records)), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        consumer.commit(asynchronous=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
