"""Publishes one LLM call and the chain around it: `python examples/publish_from_code.py`."""

import time
import uuid

from tailrace import Kind, Publisher, SpanKind, TraceEvent


def now() -> int:
    return time.time_ns() // 1000


with Publisher("127.0.0.1:9092") as publisher:
    chain, question, started = str(uuid.uuid4()), {"question": "Where is order 4711?"}, now()
    called, answer = now(), {"text": "It left the warehouse this morning."}  # your model call goes here
    publisher.publish(
        TraceEvent(
            kind=Kind.SPAN,
            span_kind=SpanKind.LLM,
            name="answer",
            tenant_id="acme",
            app_id="support",
            environment="production",
            parent_id=chain,
            trace_id=chain,
            started_at=called,
            ended_at=now(),
            model_provider="openai",
            model_name="gpt-4o-mini",
            input_tokens=12,
            output_tokens=9,
            total_tokens=21,
            inputs=question,
            outputs=answer,
        )
    )
    publisher.publish(
        TraceEvent(
            kind=Kind.SPAN,
            span_kind=SpanKind.CHAIN,
            name="support",
            tenant_id="acme",
            app_id="support",
            environment="production",
            source_id=chain,
            started_at=started,
            ended_at=now(),
            inputs=question,
            outputs=answer,
        )
    )
