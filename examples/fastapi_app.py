"""A FastAPI app: each answer is published after the response was sent.

pip install fastapi 'uvicorn[standard]'
TAILRACE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 uvicorn examples.fastapi_app:app
curl -X POST 'http://127.0.0.1:8000/ask?question=Where+is+order+4711%3F'
"""

import asyncio
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request

from tailrace import Kind, Publisher, SpanKind, TailraceError, TraceEvent

log = logging.getLogger(__name__)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.publisher = Publisher()
    yield
    await asyncio.to_thread(app.state.publisher.close)  # it waits: not in the event loop


app = FastAPI(lifespan=lifespan)


@app.post("/ask")
async def ask(question: str, request: Request, background: BackgroundTasks) -> dict[str, str]:
    started = time.time_ns() // 1000
    answer = f"You asked: {question}"  # your model call goes here
    event = TraceEvent(
        kind=Kind.SPAN,
        span_kind=SpanKind.LLM,
        name="answer",
        tenant_id="acme",  # your customer: from the session or the token of the request
        app_id="support",
        environment=os.environ.get("ENVIRONMENT", "production"),
        source_id=str(uuid.uuid4()),
        started_at=started,
        ended_at=time.time_ns() // 1000,
        model_name="gpt-4o-mini",
        inputs=question,
        outputs=answer,
    )
    background.add_task(publish, request.app.state.publisher, event)
    return {"answer": answer, "id": str(event.source_id)}


async def publish(publisher: Publisher, event: TraceEvent) -> None:
    try:
        report = await publisher.publish_async(event)
    except TailraceError as e:  # the queue is full, or the event is too large
        log.warning("not traced: %s", e)
    else:
        if not report.ok:
            log.warning("not traced: %s", report.error)
