"""A Celery worker: every task is published once it has ended, with its input, result or error.

pip install 'celery[redis]'
TAILRACE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092 celery -A examples.celery_worker worker
python -c "from examples.celery_worker import answer; answer.delay('Where is order 4711?')"
"""

import logging
import os
import time
from typing import Any

from celery import Celery, Task
from celery.signals import task_postrun, task_prerun, worker_process_shutdown

from tailrace import Kind, Publisher, SpanKind, TailraceError, TraceEvent

log = logging.getLogger(__name__)

app = Celery("answers", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1"))
publisher = Publisher()  # each process of the pool connects with its first event
started: dict[str, int] = {}


def now() -> int:
    return time.time_ns() // 1000


@app.task
def answer(question: str) -> str:
    if not question:
        raise ValueError("no question")
    return f"You asked: {question}"  # your model call goes here


@task_prerun.connect
def begin(task_id: str, **_: Any) -> None:
    started[task_id] = now()


@task_postrun.connect
def publish(task_id: str, task: Task, args: Any, kwargs: Any, retval: Any, state: str, **_: Any) -> None:
    ended = now()
    began = started.pop(task_id, ended)
    if state == "RETRY":  # not its end: a higher revision would replace it at the sinks, but count nowhere
        return
    event = TraceEvent(
        kind=Kind.SPAN,
        span_kind=SpanKind.TASK,
        name=task.name,
        tenant_id="acme",  # your customer: an argument or a header of the task
        app_id="answers",
        environment=os.environ.get("ENVIRONMENT", "production"),
        source_id=task_id,
        started_at=began,
        ended_at=ended,
        inputs={"args": args, "kwargs": kwargs},
        outputs=retval if state == "SUCCESS" else None,
        error=None if state == "SUCCESS" else f"{state}: {retval}",
    )
    try:
        publisher.publish(event)
    except TailraceError as e:
        log.warning("not traced: %s", e)


@worker_process_shutdown.connect
def close(**_: Any) -> None:
    """Celery ends the processes of its pool without Python's own hooks, so that nothing else would wait."""
    publisher.close(timeout=5)
