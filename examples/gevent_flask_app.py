"""A Flask app on gevent workers: each answer is published as a trace of two spans.

pip install flask gevent gunicorn
TAILRACE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 gunicorn -k gevent examples.gevent_flask_app:app
curl -d question='Where is order 4711?' http://127.0.0.1:8000/ask
"""

from gevent import monkey

monkey.patch_all()  # gunicorn's gevent workers have done it; with another server it comes first

import os
import time
import uuid

from flask import Flask, request
from flask.typing import ResponseReturnValue

from tailrace import Kind, Publisher, SpanKind, TailraceError, TraceEvent

app = Flask(__name__)
publisher = Publisher()  # each worker process connects with its first event
ENVIRONMENT = os.environ.get("ENVIRONMENT", "production")


def now() -> int:
    return time.time_ns() // 1000


def call_model(question: str) -> str:
    time.sleep(0.01)  # your model call goes here; other requests run meanwhile
    return f"You asked: {question}"


@app.post("/ask")
def ask() -> ResponseReturnValue:
    trace, question, started = str(uuid.uuid4()), request.form["question"], now()
    tenant = "acme"  # your customer: from the session or the token of the request
    called, answer = now(), call_model(question)
    publish(
        TraceEvent(
            kind=Kind.SPAN,
            span_kind=SpanKind.LLM,
            name="answer",
            tenant_id=tenant,
            app_id="support",
            environment=ENVIRONMENT,
            parent_id=trace,
            trace_id=trace,
            started_at=called,
            ended_at=now(),
            model_name="gpt-4o-mini",
            inputs=question,
            outputs=answer,
        )
    )
    publish(
        TraceEvent(
            kind=Kind.SPAN,
            span_kind=SpanKind.CHAIN,
            name="ask",
            tenant_id=tenant,
            app_id="support",
            environment=ENVIRONMENT,
            source_id=trace,
            started_at=started,
            ended_at=now(),
            inputs=question,
            outputs=answer,
        )
    )
    return {"answer": answer, "trace": trace}


def publish(event: TraceEvent) -> None:
    """A trace is not worth an error page: not if the queue is full, nor if the answer is too large.

    With `publisher.when_full = "raise"` it does not wait either.
    """
    try:
        publisher.publish(event)
    except TailraceError as e:
        app.logger.warning("not traced: %s", e)
